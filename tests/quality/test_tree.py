"""What may stand in the repository, and that its documents point at what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: The top level is part of the architecture.
TOP = {
    "raftsched", "tests", "jepsen-like", "docs", "pyproject.toml", "cluster.toml.example",
    "README.md", "CHANGELOG.md", "Makefile", "LICENSE",
}  # fmt: skip
#: Made by builds and runs, ignored by git.
MADE = {"build", "dist", "raftsched-data"}

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_top_level_is_the_stated_one() -> None:
    names = {p.name for p in ROOT.iterdir() if not p.name.startswith(".")}
    assert names - MADE <= TOP, f"not part of the stated top level: {names - MADE - TOP}"


DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
