"""A peer with a bug: ``python -m tests.planted NAME serve ...``."""

from __future__ import annotations

import sys

from raftsched.cli.main import cli
from tests.planted import PLANTED

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in PLANTED:
        sys.exit(f"no planted bug {name!r}: there are {', '.join(sorted(PLANTED))}")
    with PLANTED[name]():
        cli(prog_name=f"raftsched with {name}")
