"""``raftsched bench``: what this machine does, measured by anyone in a few minutes."""

from __future__ import annotations

from raftsched.cli.bench.command import bench

__all__ = ["bench"]
