"""Who is believed about addresses and tokens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftsched.client import discovery
from raftsched.client.errors import BadAddress, NoToken

TOKEN = "t" * 20


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("RAFTSCHED_ADDR", "RAFTSCHED_TOKEN", "RAFTSCHED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leave(path: Path, *addresses: str, pid: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    token = path.with_name("token")
    token.write_text(TOKEN + "\n")
    discovery.write_context(path, addresses, token, os.getpid() if pid is None else pid)
    return path


def test_nothing_known_means_the_default_address() -> None:
    assert discovery.find_target() == discovery.Target(("http://127.0.0.1:7400",), "", "default")


def test_context_gives_addresses_and_token(here: Path) -> None:
    leave(here / "raftsched-data" / "context.json", "127.0.0.1:1", "127.0.0.1:2")
    target = discovery.find_target()
    assert target.addresses == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert target.token == TOKEN


def test_running_cluster_wins_over_a_stopped_nearer_one(here: Path) -> None:
    leave(here / "raftsched-data" / "context.json", "127.0.0.1:1", pid=2**22 + 1)
    leave(discovery.context_paths()[1], "127.0.0.1:2")
    assert discovery.find_target().addresses == ("http://127.0.0.1:2",)


def test_dev_token_goes_to_its_own_addresses_only(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(here / "raftsched-data" / "context.json", "127.0.0.1:1", "127.0.0.1:2")
    assert discovery.find_target("127.0.0.1:2").token == TOKEN
    assert discovery.find_target("example.org:7400").token == ""
    monkeypatch.setenv("RAFTSCHED_ADDR", "127.0.0.1:1,example.org")
    assert discovery.find_target().token == ""


def test_context_that_leads_off_this_machine_is_not_believed(here: Path) -> None:
    leave(here / "raftsched-data" / "context.json", "example.org:7400")
    assert discovery.find_target().source == "default"


def test_context_of_another_user_is_not_believed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(here / "raftsched-data" / "context.json", "127.0.0.1:1")
    owner = os.getuid()
    if owner == 0:
        os.chown(here / "raftsched-data" / "context.json", 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert discovery.find_target().source == "default"


def test_environment_order(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(here / "raftsched-data" / "context.json", "127.0.0.1:1")
    file = here / "other"
    file.write_text("from-file")
    monkeypatch.setenv("RAFTSCHED_TOKEN_FILE", str(file))
    assert discovery.find_target().token == "from-file"
    monkeypatch.setenv("RAFTSCHED_TOKEN", "from-env")
    assert discovery.find_target().token == "from-env"
    assert discovery.find_target(token_file=file).token == "from-file"
    assert discovery.find_target(token="given").token == "given"


def test_named_token_file_must_be_there(here: Path) -> None:
    with pytest.raises(NoToken, match="cannot be read"):
        discovery.find_target(token_file=here / "missing")


def test_context_is_private_and_taken_away_by_its_owner_only(here: Path) -> None:
    path = leave(here / "context.json", "127.0.0.1:1")
    assert path.stat().st_mode & 0o777 == 0o600
    discovery.remove_context(path, os.getpid() + 1)
    assert path.exists()
    discovery.remove_context(path, os.getpid())
    assert not path.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("h:1", ("http://h:1",)),
        ("h", ("http://h:7400",)),
        ("h:1, h:2 h:1", ("http://h:1", "http://h:2")),
        ("https://h", ("https://h:443",)),
        ("[::1]:5", ("http://[::1]:5",)),
    ],
)
def test_addresses(given: str, expected: tuple[str, ...]) -> None:
    assert discovery.parse_addresses(given) == expected


@pytest.mark.parametrize("given", ["", "h:x", "ftp://h", "http://h/path", "h:99999"])
def test_bad_addresses_are_refused(given: str) -> None:
    with pytest.raises(BadAddress):
        discovery.parse_addresses(given)
