"""What a function writes, in a process whose descriptors are captured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Leaves in a file, as JSON, what each of several calls was found to have written.
CODE = """
import json, os, sys
from raftsched.executor.worker_messages import Call
from raftsched.executor.worker_output import Capture

folder, blank = sys.argv[1], json.loads(sys.argv[2])
capture = Capture(folder) if blank is None else Capture(folder, blank=blank)
found = []

def call(number, *steps, appends=False):
    capture.call = Call(number, f"t{number}", 1, "", b"", b"", appends)
    for step in steps: step()
    tail, size = capture.end()
    found.append([tail.decode(errors='replace'), size, sorted(os.listdir(folder))])

call(1, lambda: None)
call(2, lambda: print("no line end", end=""), lambda: os.write(2, b"!"))
call(3, capture.look, lambda: print("seen"), capture.look,
     lambda: found.append(sorted(os.listdir(folder))), lambda: print("later"))
call(4, lambda: print("x" * 5000))
call(5, lambda: (sys.stdout.close(), os.close(1)))
call(6, lambda: print("goes on"))
call(7, lambda: os.write(1, b"\\xff\\n"), lambda: print("\\udcff"))
open(folder + "/t8.1.out", "w").write("before\\n")
call(8, lambda: print("own"), capture.look, appends=True)
call(9, lambda: print("alone"), appends=True)
open(sys.argv[3], "w").write(json.dumps(found))
"""


@pytest.mark.parametrize("blank", [None, os.O_RDWR], ids=["nameless", "named from the start"])
def test_output_goes_to_the_call_that_wrote_it(tmp_path: Path, blank: int | None) -> None:
    folder, told = tmp_path / "output", tmp_path / "told"
    folder.mkdir()
    arguments = [sys.executable, "-c", CODE, str(folder), json.dumps(blank), str(told)]
    with subprocess.Popen(arguments) as process:
        assert process.wait(10) == 0, [file.read_text() for file in folder.iterdir()]
    extra = [] if blank is None else [f".worker-{process.pid}"]

    def files(*numbers: int, plus: list[str] = extra) -> list[str]:
        return [*plus, *(f"t{number}.1.out" for number in numbers)]

    assert json.loads(told.read_text()) == [
        ["", 0, files()],
        ["!no line end", 12, files(2)],
        files(2, 3, plus=[]),
        ["seen\nlater\n", 11, files(2, 3)],
        ["x" * 2_047 + "\n", 5_001, files(2, 3, 4)],
        ["", 0, files(2, 3, 4)],
        ["goes on\n", 8, files(2, 3, 4, 6)],
        ["\ufffd\n\\udcff\n", 9, files(2, 3, 4, 6, 7)],
        ["before\nown\n", 11, files(2, 3, 4, 6, 7, 8)],
        ["alone\n", 6, files(2, 3, 4, 6, 7, 8, 9)],
    ]
