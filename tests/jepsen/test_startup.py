"""Other defaults for a program that is as it is."""

from __future__ import annotations

import os
import subprocess
import sys

from jepsen_like.startup import SMALL_JOURNALS, environment


def _said(presets: dict[str, dict[str, dict[str, int]]], code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment(presets)},
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_named_function_has_the_default_and_all_else_is_as_it_was() -> None:
    presets = {"textwrap": {"fill": {"width": 3}}}
    assert _said(presets, "import textwrap; print(repr(textwrap.fill('a b c')))") == r"'a b\nc'"
    assert _said(presets, "import textwrap; print(textwrap.fill('a b c', width=9))") == "a b c"
    assert _said(presets, "import textwrap; print(textwrap.shorten('a b', 9))") == "a b"


def test_name_that_is_not_there_is_no_silent_success() -> None:
    code = "import textwrap; print('went on')"
    assert "no attribute 'no_such'" in _said({"textwrap": {"no_such": {}}}, code)


def test_a_peer_of_the_present_program_gets_small_journals() -> None:
    code = "from raftsched.peer.peer import LogConfig; print(LogConfig.keywords)"
    wanted = SMALL_JOURNALS["raftsched.peer.peer"]["LogConfig"]
    assert _said(SMALL_JOURNALS, code) == str(wanted)
