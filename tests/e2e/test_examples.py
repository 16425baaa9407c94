"""The examples of the documentation, by the lines of their pages, on a fresh `raftsched dev`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftsched
from raftsched.core.versions import WORKFLOWS
from tests.e2e.cluster import runners, until
from tests.ports import base_port

pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
#: Examples that have a page, and what each says at its end.
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))


class Dev:
    """A ``raftsched dev`` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in NAMES:
            shutil.copytree(EXAMPLES / name, directory / name)
        (directory / "scratch").mkdir()
        tools = directory / "bin"
        tools.mkdir()
        for name, words in (("raftsched", "-m raftsched.cli.main"), ("python", "")):
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            tool.chmod(0o755)
        mine = {"RAFTSCHED_ADDR", "RAFTSCHED_TOKEN", "RAFTSCHED_TOKEN_FILE"}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in mine},
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(raftsched.__file__).parents[1]),
            "XDG_STATE_HOME": str(directory / "state"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """As the pages say, where the one application is."""
        for _ in range(3):  # Somebody may take a port meanwhile.
            with (self.directory / "dev.log").open("wb") as log:
                self.process = subprocess.Popen(
                    ["raftsched", "dev", "--app", "words:app", "--base-port", str(base_port())],
                    cwd=self.directory / "wordcount", env=self.environment,
                    executable=str(self.directory / "bin" / "raftsched"), stdout=log, stderr=log,
                )  # fmt: skip
            until(lambda: "Ctrl-C stops it" in self._log() or self._has_ended(), 40)
            if not self._has_ended():
                until(self._knows_its_version, 30)
                return
        raise AssertionError(self._log())

    def _log(self) -> str:
        return (self.directory / "dev.log").read_text()

    def _has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _knows_its_version(self) -> bool:
        done = self.run("wordcount", "raftsched cluster status -o json")
        return done.returncode == 0 and json.loads(done.stdout)["cluster_version"] >= WORKFLOWS

    def stop(self) -> None:
        if self.process is not None and not self._has_ended():
            self.process.send_signal(signal.SIGINT)
            assert self.process.wait(30) == 0
        until(lambda: not runners(self.directory))

    def run(self, name: str, line: str) -> subprocess.CompletedProcess[str]:
        """A line of a page, on directories of the test."""
        ours = {
            "/usr/share/common-licenses": f"{self.directory}/text",
            "/etc/crontab": "crontab",
            "/tmp/": f"{self.directory}/scratch/",
        }
        line = re.sub("|".join(ours), lambda found: ours[found[0]], line)
        return subprocess.run(
            ["sh", "-c", line], cwd=self.directory / name, env=self.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def lines_of(page: str) -> list[str]:
    """What a page tells to type, beside the start of the cluster."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = [line[2:].partition("  #")[0].strip() for block in blocks
             for line in block.splitlines() if line.startswith("$ ")]  # fmt: skip
    return [line for line in lines if not line.startswith("raftsched dev")]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    dev = Dev(tmp_path_factory.mktemp("examples"))
    text = dev.directory / "text"
    (text / "below").mkdir(parents=True)
    for number in range(6):
        (text / f"{number} $(x).txt").write_text(f"grüße an alle {'wort ' * number}\n" * 50)
    # Words that no other file has: their counts are too large to be replicated.
    names = "".join(f" a{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}"
                    for n in range(9_000))  # fmt: skip
    (text / "below" / "many.txt").write_text(names)
    try:
        dev.start()
        yield dev
    finally:
        dev.stop()


def test_there_are_examples() -> None:
    assert NAMES == ["backup", "compress", "crontab", "wordcount"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_what_its_page_says(dev: Dev, name: str) -> None:
    lines = lines_of((EXAMPLES / name / "README.md").read_text())
    assert lines
    done = [dev.run(name, line) for line in lines]
    assert all(one.returncode == 0 for one in done), [(one.stdout, one.stderr) for one in done]
    assert sum("\nok: " in one.stdout for one in done) == 1, done
