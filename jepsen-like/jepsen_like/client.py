"""Clients: processes that ask one thing at a time, and write down what they asked and were told."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jepsen_like.api import Answer, Api, Unreachable
from jepsen_like.history import Operation, Writer
from jepsen_like.peers import Peers
from jepsen_like.zones import Zone

#: An operation without an answer for so long is open.
OPERATION_SECONDS = 6.0
#: Of what was wrong with a question.
_DETAIL_CHARACTERS = 500
#: A status by which nothing was done, whatever was asked; 504 is the one that cannot say.
_REFUSED = range(400, 504)


Ended = Literal["ok", "fail", "info"]


class Outcome(NamedTuple):
    """How an operation ended."""

    type: Ended
    value: dict[str, Any]
    status: int = 0
    code: str = ""
    detail: str = ""

    @property
    def is_ok(self) -> bool:
        return self.type == "ok"


class Question(NamedTuple):
    """An operation, and the request that it is."""

    f: str
    value: dict[str, Any]
    method: str
    path: str
    body: Any = None
    key: str = ""
    #: Of an answer: what the history says of it.
    told: Callable[[Any], dict[str, Any]] = lambda body: {}
    #: 404 is an answer, not a refusal.
    may_be_unknown: bool = False

    @property
    def may_change_something(self) -> bool:
        return self.method != "GET"


class Client:
    """All processes of a run, and the history that they write."""

    def __init__(self, peers: Peers, history: Writer) -> None:
        self._peers = peers
        self._history = history
        self._apis: dict[str, Api] = {}
        self._lines = 0
        self._processes = 0

    @property
    def peers(self) -> list[str]:
        """Whoever is configured."""
        return self._peers.ids

    @property
    def zone(self) -> Zone | None:
        """Whose clocks change all the while, if the peers know it."""
        return self._peers.zone

    async def close(self) -> None:
        """No connection stays open."""
        for api in self._apis.values():
            await api.close()
        self._apis.clear()

    def process(self) -> Process:
        """A new one."""
        return Process(self)

    def next_process(self) -> int:
        """A number that none has had."""
        self._processes += 1
        return self._processes

    def any_peer(self, chance: random.Random) -> str:
        """Whoever is configured: a client does not know who is well."""
        return self.some_peers(chance, 1)[0]

    def some_peers(self, chance: random.Random, count: int) -> list[str]:
        """So many of them; not those that were left dead, which a client was told of."""
        return chance.sample([p for p in self._peers.ids if p not in self._peers.dead], count)

    def write(
        self,
        process: int,
        kind: Literal["invoke"] | Ended,
        question: Question,
        peer: str,
        **more: Any,
    ) -> None:
        """A line of the history."""
        self._lines += 1
        fields = {"value": question.value, **more}
        at = time.monotonic_ns()
        self._history.write(Operation(self._lines, process, kind, question.f, at, peer, **fields))

    async def request(self, peer: str, question: Question) -> Answer:
        """Send it.  Raises Unreachable."""
        address = self._peers.api(peer)
        if address not in self._apis:
            self._apis[address] = self._peers.ask(peer)
        headers = {"Idempotency-Key": question.key} if question.key else {}
        return await self._apis[address].ask(
            question.method, question.path, question.body,
            seconds=OPERATION_SECONDS, headers=headers,
        )  # fmt: skip


class Process:
    """One client; it goes on under another number after what it cannot know."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.number = client.next_process()

    async def ask(self, question: Question, peer: str) -> Outcome:
        """Do an operation at a peer, and write it down."""
        client = self._client
        client.write(self.number, "invoke", question, peer)
        try:
            answer = await client.request(peer, question)
        except Unreachable as error:
            is_open = error.was_sent and question.may_change_something
            outcome = Outcome("info" if is_open else "fail", {}, 0, "unreachable", str(error))
            index = None
        else:
            outcome, index = _judged(question, answer), answer.at_index
        why: dict[str, Any] | None = None
        if not outcome.is_ok:
            why = {"status": outcome.status, "code": outcome.code, "detail": outcome.detail}
        if outcome.type == "info":
            index = None
        client.write(
            self.number, outcome.type, question, peer,
            value=outcome.value, index=index, error=why,
        )  # fmt: skip
        if outcome.type == "info":
            self.number = client.next_process()
        return outcome


def _judged(question: Question, answer: Answer) -> Outcome:
    status, code = answer.status, answer.code
    if status < 300:
        replayed = answer.headers.get("idempotency-replayed") == "true"
        value = question.told(answer.body)
        return Outcome("ok", {**value, "replayed": replayed} if question.key else value, status)
    if status == 404 and question.may_be_unknown:
        return Outcome("ok", {**question.value, "state": None}, status, code)
    is_refused = status in _REFUSED or not question.may_change_something
    detail = json.dumps(answer.body)[:_DETAIL_CHARACTERS] if code == "invalid" else ""
    return Outcome("fail" if is_refused else "info", {}, status, code, detail)
