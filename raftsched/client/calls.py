"""Calls as plans: what is asked and how the answers are read, without the I/O.

A plan is a generator that yields requests, is sent the answers, and returns the result.  It is
written once; `operation` makes of it a method that blocks on the one client and is awaited on the
other.  An error of a request is raised in the plan, where the request was made.
"""

from __future__ import annotations

import functools
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote, urlencode

from raftsched.client.discovery import find_target
from raftsched.client.errors import BadReply, NotFound
from raftsched.client.messages import Reply, Request
from raftsched.client.tries import Endpoints

if TYPE_CHECKING:
    from raftsched.client.aio import AsyncClient, AsyncTask
    from raftsched.client.sync import Client, Task

USER_AGENT = "raftsched-python"
PAGE_MAX = 1_000

Document = dict[str, Any]
Documents = list[Document]

T = TypeVar("T")
P = ParamSpec("P")
Plan = Generator[Request, Reply, T]


class operation(Generic[P, T]):
    """A plan as a method: its result from `Client`, an awaitable of it from `AsyncClient`."""

    def __init__(self, plan: Callable[Concatenate[Any, P], Plan[T]]) -> None:
        self._plan = plan

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client; of a class the plan, for its name, signature and text."""
        return self._plan if client is None else _bound(client, self._plan, client.run)


class task_operation(Generic[P]):
    """The same for a plan whose result is a task's document: a `Task`, or an `AsyncTask`."""

    def __init__(self, plan: Callable[Concatenate[Any, P], Plan[Document]]) -> None:
        self._plan = plan

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Task]: ...

    @overload
    def __get__(
        self, client: AsyncClient, owner: type
    ) -> Callable[P, Coroutine[Any, Any, AsyncTask]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client; of a class the plan, for its name, signature and text."""
        return self._plan if client is None else _bound(client, self._plan, client.run_task)


class listing(Generic[P]):
    """Pages as an iterator of documents, or an asynchronous one."""

    def __init__(self, pages: Callable[Concatenate[Any, P], Pages]) -> None:
        self._plan = pages

    @overload
    def __get__(self, client: None, owner: type) -> Callable[..., Any]: ...

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Iterator[Document]]: ...

    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncIterator[Document]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        """The method of a client; of a class the plan, for its name, signature and text."""
        return self._plan if client is None else _bound(client, self._plan, client.walk)


def _bound(client: Any, plan: Callable[..., Any], run: Callable[[Any], Any]) -> Any:
    @functools.wraps(plan)
    def method(*args: Any, **fields: Any) -> Any:
        return run(plan(client, *args, **fields))

    return method


class Pages:
    """A list that is fetched page by page as it is drawn."""

    def __init__(
        self, calls: Calls, path: str, query: Mapping[str, Any], page: int, limit: int | None
    ) -> None:
        self._calls = calls
        self._path = path
        self._query = query
        self._page = min(PAGE_MAX, page)
        #: How many items may yet come; None: all.
        self._left = limit
        self._cursor: str | None = ""

    def request(self) -> Request | None:
        """The request for the next page; None: there is none."""
        if self._cursor is None or self._left == 0:
            return None
        size = self._page if self._left is None else min(self._page, self._left)
        query = {"limit": size, "cursor": self._cursor, **self._query}
        return self._calls.reading(self._path, query)

    def take(self, reply: Reply) -> Documents:
        """The items of a page."""
        page = document_of(reply)
        self._cursor = page.get("next_cursor") or None
        items: Documents = list(page.get("items") or ())[: self._left]
        if self._left is not None:
            self._left -= len(items)
        return items


class Calls(ABC):
    """What all calls of a client share: the endpoints, the index seen."""

    def __init__(
        self,
        addresses: str | Iterable[str] | None = None,
        *,
        token: str | None = None,
        token_file: str | None = None,
        timeout_seconds: float = 30.0,
        unreachable_seconds: float = 5.0,
        consistency: str = "linearizable",
    ) -> None:
        """``addresses``: ``host:port`` of some or all peers; None: see `discovery`.

        ``timeout_seconds`` bounds every call with all its retries; ``unreachable_seconds`` bounds
        it while nobody listens anywhere.  Raises BadAddress or NoToken.
        """
        target = find_target(addresses, token, token_file)
        self.source = target.source
        self.has_token = bool(target.token)
        self._endpoints = Endpoints(
            target.addresses,
            target.token,
            timeout_seconds=timeout_seconds,
            unreachable_seconds=min(unreachable_seconds, timeout_seconds),
            user_agent=USER_AGENT,
        )
        self._consistency = consistency
        #: Highest index seen in an answer; later reads are at least as new.
        self.last_index = 0
        self._open(self._endpoints)

    @abstractmethod
    def _open(self, endpoints: Endpoints) -> None:
        """Make the client's own connections."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs this client knows."""
        return self._endpoints.urls

    @operation
    def request(
        self, method: str, path: str, body: Any = None, *, timeout_seconds: float | None = None
    ) -> Plan[Any]:
        """Any route: JSON in, JSON out.  A POST carries a fresh Idempotency-Key."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if method == "POST":
            headers["Idempotency-Key"] = new_key()
        data = None if body is None else json.dumps(body).encode()
        reply = yield Request(method, path, data, headers, timeout_seconds=timeout_seconds)
        return reply.json()

    def reading(
        self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = 0.0
    ) -> Request:
        """A read that is at least as new as what this client has seen."""
        full = {"min_index": self.last_index, **(query or {})}
        if self._consistency != "linearizable":
            full["consistency"] = self._consistency
        return Request("GET", path + query_of(full), patience_seconds=patience)

    def seen(self, reply: Reply) -> Reply:
        """An answer, whose index is noted."""
        index = reply.headers.get("raftsched-index", "")
        if index.isdigit():
            self.last_index = max(self.last_index, int(index))
        return reply

    def _all(self, path: str) -> Pages:
        """All items of a list that is not filtered."""
        return Pages(self, path, {}, PAGE_MAX, None)

    def _read(
        self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = 0.0
    ) -> Plan[Document]:
        return document_of((yield self.reading(path, query, patience=patience)))

    def _write(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        key: str = "",
        query: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        method: str = "POST",
        patience: float = 0.0,
        if_match: int = 0,
    ) -> Plan[Document]:
        headers = {"Content-Type": "application/json"}
        if if_match:
            headers["If-Match"] = f'"{if_match}"'
        if key:
            headers["Idempotency-Key"] = key
        data = json.dumps(body).encode()
        target = path + query_of(query or {})
        request = Request(
            method, target, data, headers, repeatable=repeatable, patience_seconds=patience
        )
        return document_of((yield request))

    def _delete(self, path: str) -> Plan[None]:
        try:
            yield Request("DELETE", path)
        except NotFound as error:
            if not error.after_unknown:
                raise


def document_of(reply: Reply) -> Document:
    """The JSON object of an answer; an empty one for an empty body.  Raises BadReply."""
    document = reply.json()
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadReply(f"{reply.endpoint} answered no JSON object; is it a raftsched peer?")
    return document


def query_of(values: Mapping[str, Any]) -> str:
    """``?a=b`` of what is set; booleans as 1."""
    pairs = {
        name: "1" if value is True else value
        for name, value in values.items()
        if value is not None and value is not False and value != "" and value != 0
    }
    return "?" + urlencode(pairs) if pairs else ""


def part(value: str) -> str:
    """A name as a part of a path."""
    return quote(value, safe="")


def new_key() -> str:
    """An idempotency key of its own."""
    return uuid.uuid4().hex
