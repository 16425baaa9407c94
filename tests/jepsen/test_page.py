"""The report in a real browser, where there is one (apt-get install chromium)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from jepsen_like.recheck import recheck
from tests.jepsen.builders import write_run
from tests.jepsen.test_results import broken

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium"),
]


def browse(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a network, and print what its scripts made of it."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND",
               *words, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_shows_what_broke_and_its_scripts_do_not_fail(tmp_path: Path, width: int) -> None:
    write_run(tmp_path, broken())
    recheck(tmp_path)
    done = browse(tmp_path / "report.html", f"--window-size={width},900")
    assert "A promise was broken." in done.stdout
    assert "<svg" in done.stdout
    trouble = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not trouble, trouble
