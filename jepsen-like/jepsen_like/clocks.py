"""Wall clocks of machines that the harness sets, by a preloaded shim (``shims/clock.c``)."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "shims" / "clock.c"
_FIELDS = struct.Struct("<3q")
_BUILD_SECONDS = 60.0


class CannotBuild(Exception):
    """There is no shim; says what is missing."""


class Clocks:
    """One for each machine, in a file; all are right to begin with."""

    def __init__(self, library: Path) -> None:
        self._library = library

    def environment(self, home: Path) -> dict[str, str]:
        """What has the programs of a machine go by its clock."""
        path = self._path(home)
        if not path.exists():
            path.write_bytes(_FIELDS.pack(0, 0, 0))
        return {"LD_PRELOAD": str(self._library), "JEPSEN_LIKE_CLOCK": str(path)}

    def set(self, home: Path, offset_ms: int, *, drift: float = 0.0) -> None:
        """So far ahead from now on, and farther by so many seconds each second."""
        fields = offset_ms * 1_000_000, time.monotonic_ns(), round(drift * 1e9)
        # Programs have mapped it, so it is written in place.
        with self._path(home).open("r+b", buffering=0) as file:
            file.write(_FIELDS.pack(*fields))

    def _path(self, home: Path) -> Path:
        return home / "clock"


def build(directory: Path) -> Path:
    """Compile the shim into a directory.  Raises CannotBuild."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotBuild("gcc is missing: apt-get install gcc libc6-dev")
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / "clock.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE)],
        capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise CannotBuild(f"gcc cannot build the shim (apt-get install libc6-dev): {said}")
    return library


def why_not() -> str:
    """What this machine lacks for it, in words; empty: nothing."""
    with tempfile.TemporaryDirectory(prefix="jepsen-like-") as directory:
        try:
            build(Path(directory))
        except CannotBuild as error:
            return str(error)
    return ""
