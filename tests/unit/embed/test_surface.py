"""A program can change from `AsyncClient` to an embedded peer: names and keywords are the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from raftsched import Peer
from raftsched.client.aio import AsyncClient

#: What a client has and a peer has not -> why.
NOT_OFFERED = {
    **dict.fromkeys(
        ("endpoints", "reading", "request", "run", "run_task", "seen", "send", "task_of", "walk"),
        "it is about how a client asks over HTTP",
    ),
    "close": "a peer is left, or stopped: `stop`",
    "pipeline": "commands of one pass of the loop share an entry as it is",
    **dict.fromkeys(("cluster", "peers"), "`status`, `members` and `told` say it of this peer"),
    **dict.fromkeys(
        ("add_peer", "remove_peer"),
        "the group is changed by `change_members`, which says what the API makes of it",
    ),
    "transfer_leader": "it is `transfer_leadership`",
    "check_replicas": "a peer's own says how long by `timeout_seconds`, and gives a row",
    "reset_clock": "it is for operators whose cluster takes nothing in",
}
#: Have a time of their own.
OWN_TIME = {"wait"}

OFFERED = [
    name
    for name in sorted(dir(AsyncClient))
    if not name.startswith("_") and name not in NOT_OFFERED
]


def _parameters(method: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(method).parameters
    return [parameter for name, parameter in found.items() if name != "self"]


def test_table_of_exceptions_names_what_there_is() -> None:
    assert set(NOT_OFFERED) <= set(dir(AsyncClient))
    # What was said to be missing and is there after all belongs out of the table.
    assert {name for name in NOT_OFFERED if hasattr(Peer, name)} == {"check_replicas"}
    assert len(OFFERED) > 60


def test_no_part_of_a_peer_takes_a_name_of_another_one() -> None:
    own, taken = {"__init__", "start", "stop"}, dict[str, type]()
    for part in Peer.__mro__[:-1]:
        for name in vars(part):
            is_given = name.startswith("__") and name.endswith("__")
            assert is_given or name in own or name not in taken, (name, part, taken[name])
            taken[name] = part


@pytest.mark.parametrize("name", OFFERED)
def test_peer_has_what_the_client_has(name: str) -> None:
    assert hasattr(Peer, name), f"a client can {name}, a peer cannot: {NOT_OFFERED.keys()}"
    asked, given = _parameters(getattr(AsyncClient, name)), _parameters(getattr(Peer, name))
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wanted = [parameter.name for parameter in asked if parameter.kind in by_position]
    assert [parameter.name for parameter in given][: len(wanted)] == wanted
    kinds = {parameter.name: parameter.kind for parameter in given}
    for parameter in asked:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            assert parameter.kind in kinds.values(), f"{name} takes no further fields"
        else:
            assert parameter.name in kinds, f"{name} has no {parameter.name}"
    # Optional stays optional.
    required = {p.name for p in given if p.default is p.empty and p.kind in by_position}
    assert required <= {p.name for p in asked if p.default is p.empty}


@pytest.mark.parametrize("name", sorted(set(OFFERED) - OWN_TIME))
def test_every_call_of_a_peer_is_bounded_in_time(name: str) -> None:
    [bound] = [p for p in _parameters(getattr(Peer, name)) if p.name == "timeout_seconds"]
    assert bound.kind is inspect.Parameter.KEYWORD_ONLY
    assert bound.default > 0
