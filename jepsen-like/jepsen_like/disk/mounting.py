"""How the program of a disk is run, and whether it can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_TRIAL_SECONDS = 15.0


def words(path: Path) -> list[str]:
    """The command that mounts a disk at a path, in a mount namespace of its caller's."""
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path[0] = {root!r}; from jepsen_like.disk.powerfs import main; main()"
    return [sys.executable, "-c", code, str(path)]


def namespace() -> tuple[str, ...]:
    """Words that give a command a mount namespace of its own."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *user, "--mount")


def why_not() -> str:
    """What this machine lacks for it, in words; empty: nothing."""
    if shutil.which("unshare") is None:
        return "unshare is missing: apt-get install util-linux"
    if not Path("/dev/fuse").exists():
        return "/dev/fuse is missing: modprobe fuse, or give the container that device"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened: run as root, or apt-get install fuse3"
    with tempfile.TemporaryDirectory(prefix="jepsen-like-") as directory:
        tried = subprocess.run(
            [*namespace(), *words(Path(directory))],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=_TRIAL_SECONDS,
        )  # fmt: skip
    if tried.returncode or tried.stdout.strip() != "ok":
        said = tried.stderr.strip().splitlines()
        return f"no file system can be mounted: {said[-1] if said else 'no reason was given'}"
    return ""
