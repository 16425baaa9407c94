"""The architecture as a rule: who may import whom, and what core may not touch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "raftsched"
#: Judges the product from outside, so it shares no code with it.
HARNESS = ROOT / "jepsen-like"

#: Folder -> folders of ours it may import.  Nothing else is allowed.
ALLOWED = {
    "core": {"core"},
    "raft": {"raft", "core"},
    "executor": {"executor", "core"},
    "peer": {"peer", "executor", "raft", "core"},
    "api": {"api", "peer", "core"},
    "client": {"client"},
    # What programs import to make tasks; the runner does not, its workers do.
    "app": {"app", "attempt", "flows", "client"},
    "attempt": set(),
    "flows": {"flows", "app", "client"},
    # For programs that attempts write to; nothing else.
    "fencing": set(),
    "cli": {"cli", "client", "api", "peer", "core", "embed"},
    # Of clients it shares what documents and progress are, not how they ask.
    "embed": {"api", "peer", "core", "client"},
    # Shipped for tests, the users' too; nothing imports it.
    "testing": {"testing", "embed", "peer", "executor", "raft", "core"},
    "__init__": {"app", "embed"},
}

#: A folder within a room -> what it may import beyond the room's.
BEYOND = {
    "cli/bench/raft/": {"raft"},
    "cli/bench/noop": {"app"},
    "cli/bench/python": {"executor"},
    "executor/worker.py": {"app"},
    "executor/worker_calls.py": {"app"},
    "executor/worker_loop.py": {"app"},
    "executor/worker_inputs.py": {"app", "flows"},
}

#: Third-party package -> places that may import it.
ONLY_IN = {
    # The benchmark runs it as it comes, beside ours.
    "pysyncobj": ("raft/", "cli/bench/raft/stock.py"),
    **dict.fromkeys(("celery", "dramatiq", "huey", "redis"), ("cli/bench/beside/programs/",)),
    "aiohttp": ("api/", "client/", "executor/http.py"),
    "click": ("cli/",),
    "prometheus_client": ("api/",),
    "cronsim": ("core/cron/",),
    "tzdata": ("core/cron/",),
    "cryptography": ("peer/certificates.py",),
}

#: What pure code has no business with.
IMPURE = {
    "asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "selectors",
    "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip

#: Calendars are arithmetic; what must not be asked for there is the present.
CALENDAR = "core/cron/"
PRESENT = {"now", "today", "utcnow"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Absolute names of everything a module imports, wherever in it, but not for typing only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the absolute name"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    if "sys.intern" in names and not any(n.startswith("sys.") and n != "sys.intern" for n in names):
        names -= {"sys", "sys.intern"}  # Sharing equal strings asks the world nothing.
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_architecture(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    names = imported(path)
    ours = {name.split(".")[1] for name in names if name.startswith("raftsched.")}
    ours.discard("__version__")
    beyond = {n for path, names in BEYOND.items() if str(relative).startswith(path) for n in names}
    assert ours <= ALLOWED[room] | {room} | beyond, (
        f"{relative} may not import {ours - ALLOWED[room]}"
    )
    for package, places in ONLY_IN.items():
        if any(name == package or name.startswith(package + ".") for name in names):
            assert str(relative).startswith(places), f"{relative} may not import {package}"
    assert not names & {"pickle", "marshal", "shelve", "dill"}, f"{relative} imports a pickle"
    if room == "core":
        impure = {name.split(".")[0] for name in names} & IMPURE
        if str(relative).startswith(CALENDAR):
            impure -= {"datetime"}
            asked = {
                n.attr
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Attribute)
            }
            assert not asked & PRESENT, f"{relative} asks the clock"
        assert not impure, f"{relative} is pure and may not import {impure}"


@pytest.mark.parametrize(
    "path", sorted(HARNESS.rglob("*.py")), ids=lambda p: str(p.relative_to(HARNESS))
)
def test_the_harness_imports_nothing_of_the_product(path: Path) -> None:
    names = imported(path)
    ours = {name for name in names if name.split(".")[0] in ("raftsched", "pysyncobj", "tests")}
    assert not ours, f"{path.relative_to(ROOT)} may not import {ours}"
    assert not names & {"pickle", "marshal", "shelve", "dill"}, f"{path.name} imports a pickle"


def test_the_product_imports_nothing_of_the_harness() -> None:
    for path in MODULES:
        assert not any(n.split(".")[0] == "jepsen_like" for n in imported(path)), path
