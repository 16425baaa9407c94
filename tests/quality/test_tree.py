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


DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "jepsen-like" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


#: "`e2e/test_faults.py::test_name`" in a table of cases.
NAMED = re.compile(r"`((?:unit|properties|simulation|integration|e2e)/[\w/]+\.py)(?:::(\w+))?`")


def test_tests_that_the_conformance_page_names_are_there() -> None:
    found = NAMED.findall((ROOT / "docs" / "conformance.md").read_text(encoding="utf-8"))
    assert len(found) > 10
    for path, name in found:
        text = (ROOT / "tests" / path).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in text, f"{path} has no {name}"
