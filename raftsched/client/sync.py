"""The synchronous client: the public API as methods, on the standard library alone.

    from raftsched.client import Client

    with Client() as client:                     # finds addresses and token by itself
        task = client.submit(["/usr/bin/true"])
        print(task.wait()["state"])

Rules
1. Every creating request carries an Idempotency-Key; the transport repeats it with the same one.
2. What the server answers is handed on as it is (dicts as in the reference), `Task` adds verbs.
3. Reads carry the highest index this client has seen (``min_index``), so it reads its own writes
   on whichever peer answers.
Trouble: see `raftsched.client.errors`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from raftsched.client.discovery import find_target
from raftsched.client.errors import (
    BadReply,
    ConnectionFailed,
    NotFound,
    TaskTerminal,
    WaitTimeout,
)
from raftsched.client.transport import Reply, Request, Transport

USER_AGENT = "raftsched-python"
#: One request of ``submit_batch`` holds at most this many tasks and bytes.
BATCH_TASKS_MAX = 5_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
PAGE_MAX = 1_000
#: Longest a server is asked to hold one wait.
WAIT_SECONDS_MAX = 30.0

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired", "lost"})

Document = dict[str, Any]
Documents = list[Document]


class Task(dict[str, Any]):
    """A task document as the API gave it, with the verbs of the client that fetched it."""

    def __init__(self, client: Client, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self._client = client

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self["id"])

    @property
    def state(self) -> str:
        """Status word at the time of the answer."""
        return str(self.get("state", ""))

    @property
    def is_terminal(self) -> bool:
        """Has it ended (at the time of the answer)?"""
        return self.state in TERMINAL_STATES

    def refresh(self) -> Task:
        """The task as it is now."""
        return self._client.get(self.id)

    def wait(self, timeout_seconds: float | None = None) -> Task:
        """The task when it has ended; WaitTimeout if that is not in time."""
        return self._client.wait(self.id, timeout_seconds)

    def cancel(self, reason: str = "") -> Task:
        """Ask for its end."""
        return self._client.cancel(self.id, reason)

    def output(self, *, follow: bool = False, **options: Any) -> Generator[bytes, None, None]:
        """Its output; see `Client.output`."""
        return self._client.output(self.id, follow=follow, **options)


class BatchResult:
    """What became of a batch: ids in order (None where refused) and the refusals."""

    def __init__(self) -> None:
        #: None where refused, and everywhere after a dry run.
        self.ids: list[str | None] = []
        #: Position (from 0) and problem document of every task that was refused.
        self.refused: list[tuple[int, Document]] = []

    @property
    def created(self) -> int:
        """How many tasks exist now because of this batch."""
        return sum(1 for task_id in self.ids if task_id is not None)

    @property
    def accepted(self) -> int:
        """How many tasks were not refused."""
        return len(self.ids) - len(self.refused)


class Client:
    """The cluster, from outside.  Safe to share between threads; close it when done."""

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
        self._transport = Transport(
            target.addresses,
            target.token,
            timeout_seconds=timeout_seconds,
            unreachable_seconds=min(unreachable_seconds, timeout_seconds),
            user_agent=USER_AGENT,
        )
        self._consistency = consistency
        #: Highest index seen in an answer; later reads are at least as new.
        self.last_index = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs this client knows."""
        return self._transport.endpoints

    # Tasks

    def submit(
        self,
        command: Sequence[str] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        **fields: Any,
    ) -> Task:
        """Create one task; ``fields`` are those of the task document (``name``, ``env``, ...).

        Given the same ``idempotency_key`` it takes effect once.
        """
        body: Document = dict(fields)
        if command is not None:
            body["command"] = list(command)
        reply = self._write(
            "/v1/tasks", body, key=idempotency_key or _new_key(), query={"dry_run": dry_run}
        )
        return self._task(reply)

    def submit_batch(
        self,
        tasks: Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        atomic: bool = False,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> BatchResult:
        """Create many tasks, drawn from ``tasks`` as they are sent.

        They go out in requests of at most ``BATCH_TASKS_MAX``, each with its own key derived from
        ``idempotency_key``, so the whole call may be repeated.  ``progress`` gets the number of
        tasks answered so far.  ``atomic``: one request, all or none.  ``dry_run``: every task is
        checked and none is created.
        """
        key = idempotency_key or _new_key()
        result = BatchResult()
        for number, lines in enumerate(_requests(tasks, split=not atomic)):
            request = Request(
                "POST",
                "/v1/tasks:batch" + _query({"atomic": atomic, "dry_run": dry_run}),
                b"".join(lines),
                {
                    "Content-Type": "application/x-ndjson",
                    "Accept": "application/x-ndjson",
                    "Idempotency-Key": f"{key}-{number}",
                },
            )
            self._take_answers(result, self._send(request), len(lines))
            if progress is not None:
                progress(len(result.ids))
        return result

    def _take_answers(self, result: BatchResult, reply: Reply, expected: int) -> None:
        begin = len(result.ids)
        for line in reply.body.splitlines():
            if not line.strip():
                continue
            try:
                answer = json.loads(line)
            except ValueError:
                raise BadReply(f"{reply.endpoint}: a batch answer is not JSON") from None
            if answer.get("valid") is True:
                result.ids.append(None)
            elif answer.get("code") or "id" not in answer:
                result.refused.append((len(result.ids), answer))
                result.ids.append(None)
            else:
                result.ids.append(str(answer["id"]))
        if len(result.ids) - begin != expected:
            raise BadReply(
                f"{reply.endpoint} answered {len(result.ids) - begin} of {expected} tasks of a "
                "batch; repeat it with the same key to see the rest"
            )

    def get(self, task_id: str) -> Task:
        """One task; NotFound when there is none (any more)."""
        return self._task(self._read(f"/v1/tasks/{_part(task_id)}"))

    def list(self, *, limit: int | None = None, page: int = 100, **filters: Any) -> Iterator[Task]:
        """Tasks, newest first as the server orders them, fetched page by page as they are drawn.

        ``filters`` as in the reference: ``state="running,failed"``, ``q=``, ``node=``, ...
        """
        left = limit
        cursor = ""
        while left is None or left > 0:
            size = min(PAGE_MAX, page if left is None else min(page, left))
            reply = self._read("/v1/tasks", {"limit": size, "cursor": cursor, **filters})
            document = _document(reply)
            for item in document.get("items", ()):
                yield Task(self, item)
                left = None if left is None else left - 1
            cursor = document.get("next_cursor") or ""
            if not cursor:
                return

    def cancel(self, task_id: str, reason: str = "") -> Task:
        """Ask for a task's end; a running one is ``cancelling`` until its node confirms."""
        body = {"reason": reason} if reason else {}
        return self._verb(task_id, "cancel", body)

    def pause(self, task_id: str) -> Task:
        """Keep a task from being started; what runs goes on."""
        return self._verb(task_id, "pause", {})

    def resume(self, task_id: str) -> Task:
        """Undo a pause."""
        return self._verb(task_id, "resume", {})

    def run_now(self, task_id: str) -> Task:
        """End the wait of a task: its delay, its backoff, its pause."""
        return self._verb(task_id, "run", {})

    def retry(self, task_id: str, *, idempotency_key: str | None = None) -> Task:
        """Try a task again that ended and did not succeed: a new one, ``retry_of`` this one."""
        path = f"/v1/tasks/{_part(task_id)}/retry"
        return self._task(self._write(path, {}, key=idempotency_key or _new_key()))

    def edit(
        self,
        task_id: str,
        patch: Mapping[str, Any],
        *,
        if_index: int | None = None,
        dry_run: bool = False,
    ) -> Task:
        """Change fields of a task that does not run, by a JSON merge patch (None: the default).

        With ``if_index``, a ``modify_index`` seen before, only if nobody changed it since.
        """
        headers = {"Content-Type": "application/json"}
        if if_index is not None:
            headers["If-Match"] = f'"{if_index}"'
        path = f"/v1/tasks/{_part(task_id)}{_query({'dry_run': dry_run})}"
        return self._task(self._send(Request("PATCH", path, json.dumps(patch).encode(), headers)))

    def cancel_many(self, *, reason: str = "", **query: Any) -> Document:
        """Cancel all tasks that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        body = {"reason": reason} if reason else {}
        return _document(self._write("/v1/tasks:cancel", body, query=query))

    def retry_many(self, **query: Any) -> Document:
        """Try all tasks again that pass a filter (as for `list`; ``limit``, ``dry_run``)."""
        return _document(self._write("/v1/tasks:retry", {}, query=query, repeatable=False))

    def _verb(self, task_id: str, verb: str, body: Document) -> Task:
        try:
            return self._task(self._write(f"/v1/tasks/{_part(task_id)}/{verb}", body))
        except TaskTerminal as error:
            # The first try may have done it; then the task says so, and the refusal is stale.
            if verb == "cancel" and error.after_unknown:
                task = self.get(task_id)
                if task.state == "cancelled":
                    return task
            raise

    def delete(self, task_id: str) -> None:
        """Remove an ended task and its attempts; TaskNotTerminal when it has not ended."""
        try:
            self._send(Request("DELETE", f"/v1/tasks/{_part(task_id)}"))
        except NotFound as error:
            if not error.after_unknown:
                raise

    def wait(self, task_id: str, timeout_seconds: float | None = None) -> Task:
        """The task when it has ended; WaitTimeout if that is not within ``timeout_seconds``."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = WAIT_SECONDS_MAX if deadline is None else deadline - time.monotonic()
            wait = max(0.0, min(WAIT_SECONDS_MAX, left))
            task = self._task(
                self._read(
                    f"/v1/tasks/{_part(task_id)}/wait", {"wait": f"{wait:.3f}s"}, patience=wait
                )
            )
            if task.is_terminal:
                return task
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"task {task_id} is still {task.state} after {timeout_seconds:g} s; "
                    f"wait again or cancel it"
                )

    def watch_task(self, task: Task, wait_seconds: float = WAIT_SECONDS_MAX) -> Task:
        """The task once it is no longer as ``task`` has it, or after ``wait_seconds``."""
        # Not `last_index`: the task may have changed between the two.
        query = {"index": int(task.get("modify_index") or 0), "wait": f"{wait_seconds:.3f}s"}
        return self._task(self._read(f"/v1/tasks/{_part(task.id)}", query, patience=wait_seconds))

    def explain(self, task_id: str) -> Document:
        """Why a task does not run: ``verdict``, ``blockers``, ``nodes``, ``position``."""
        return _document(self._read(f"/v1/tasks/{_part(task_id)}/explain"))

    def attempts(self, task_id: str) -> Documents:
        """All attempts of a task, oldest first."""
        document = _document(self._read(f"/v1/tasks/{_part(task_id)}/attempts"))
        items: Documents = document.get("items", [])
        return items

    def output(
        self,
        task_id: str,
        attempt: int | None = None,
        *,
        follow: bool = False,
        offset: int = 0,
        tail: int | None = None,
    ) -> Generator[bytes, None, None]:
        """An attempt's output piece by piece (None: the latest attempt).

        ``follow`` goes on until the attempt has ended, over broken connections, without losing or
        repeating a byte.  Raises OutputGone when it was rotated away or its node is down.
        """
        number = attempt or int(self.get(task_id).get("attempt") or 0)
        if number == 0:
            return
        path = f"/v1/tasks/{_part(task_id)}/attempts/{number}/output"
        breaks = 0
        while True:
            query = {"follow": follow, "offset": offset, "tail": tail}
            headers, pieces = self._transport.stream(
                Request("GET", path + _query(query), headers={"Accept": "*/*"})
            )
            if tail is not None:
                offset, tail = int(headers.get("raftsched-output-offset") or 0), None
                resumable = "raftsched-output-offset" in headers
            else:
                resumable = True
            try:
                for piece in pieces:
                    offset += len(piece)
                    breaks = 0
                    yield piece
                return
            except ConnectionFailed:
                breaks += 1
                if not follow or not resumable or breaks > 5:
                    raise

    # Nodes and cluster

    def nodes(self) -> Documents:
        """All nodes the cluster knows."""
        items: Documents = _document(self._read("/v1/nodes")).get("items", [])
        return items

    def node(self, node_id: str) -> Document:
        """One node."""
        return _document(self._read(f"/v1/nodes/{_part(node_id)}"))

    def cordon(self, node_id: str) -> Document:
        """Give a node nothing new; what runs there goes on."""
        return _document(self._write(f"/v1/nodes/{_part(node_id)}/cordon", {}))

    def uncordon(self, node_id: str) -> Document:
        """Undo a cordon."""
        return _document(self._write(f"/v1/nodes/{_part(node_id)}/uncordon", {}))

    def drain(self, node_id: str, patience: str | float = 0) -> Document:
        """Give a node nothing new, and move what it holds elsewhere after ``patience``."""
        return _document(self._write(f"/v1/nodes/{_part(node_id)}/drain", {"patience": patience}))

    def set_node_labels(self, node_id: str, labels: Mapping[str, str]) -> Document:
        """Replace the labels that a node was given at run time."""
        path, body = f"/v1/nodes/{_part(node_id)}/labels", {"labels": dict(labels)}
        return _document(self._write(path, body, method="PUT"))

    # Queues and limits

    def queues(self) -> Iterator[Document]:
        """All queues that were set or have tasks, by name."""
        return self._pages("/v1/queues")

    def queue(self, name: str) -> Document:
        """One queue."""
        return _document(self._read(f"/v1/queues/{_part(name)}"))

    def set_queue(self, name: str, **fields: Any) -> Document:
        """Say what holds for a queue: ``concurrency``, ``max_depth``, ``paused``."""
        return _document(self._write(f"/v1/queues/{_part(name)}", fields, method="PUT"))

    def delete_queue(self, name: str) -> None:
        """Back to the defaults; the tasks stay."""
        self._delete(f"/v1/queues/{_part(name)}")

    def pause_queue(self, name: str) -> Document:
        """Start nothing of a queue; what runs goes on."""
        return _document(self._write(f"/v1/queues/{_part(name)}/pause", {}))

    def resume_queue(self, name: str) -> Document:
        """Undo a pause."""
        return _document(self._write(f"/v1/queues/{_part(name)}/resume", {}))

    def purge_queue(self, name: str, *, reason: str = "", dry_run: bool = False) -> Document:
        """Cancel all tasks of a queue that no node has: ``matched``, ``changed``, ``ids``."""
        path, query = f"/v1/queues/{_part(name)}/purge", {"dry_run": dry_run}
        return _document(self._write(path, {"reason": reason}, query=query))

    def limits(self) -> Iterator[Document]:
        """All limits that were set or are held, by key."""
        return self._pages("/v1/limits")

    def limit(self, key: str) -> Document:
        """One limit."""
        return _document(self._read(f"/v1/limits/{_part(key)}"))

    def set_limit(self, key: str, **fields: Any) -> Document:
        """Say what holds for a key: ``count``, ``rate`` (``count``, ``per``, ``burst``)."""
        return _document(self._write(f"/v1/limits/{_part(key)}", fields, method="PUT"))

    def delete_limit(self, key: str) -> None:
        """Back to a mutex."""
        self._delete(f"/v1/limits/{_part(key)}")

    def _pages(self, path: str) -> Iterator[Document]:
        cursor = None
        while True:
            page = _document(self._read(path, {"limit": 1000, "cursor": cursor}))
            yield from page.get("items", [])
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def _delete(self, path: str) -> None:
        try:
            self._send(Request("DELETE", path))
        except NotFound as error:
            if not error.after_unknown:
                raise

    def cluster(self, timeout_seconds: float | None = None) -> Document:
        """What the answering peer knows of the cluster; works without a leader too."""
        return _document(self._send(Request("GET", "/v1/cluster"), timeout_seconds))

    def peers(self) -> Document:
        """The members of the group as the leader knows them: ``items``, ``waits_for``, ``done``."""
        return _document(self._send(Request("GET", "/v1/cluster/peers")))

    def add_peer(
        self, peer_id: str, raft: str, api: str, *, replaces: str = "", wait_seconds: float = 5.0
    ) -> Document:
        """Add a peer, or replace one; ``done`` is false while it goes on: ask again to wait."""
        body = {"id": peer_id, "raft": raft, "api": api, "replaces": replaces}
        query = {"wait": f"{wait_seconds:g}s"}
        return _document(self._write("/v1/cluster/peers", body, query=query))

    def remove_peer(self, peer_id: str, *, wait_seconds: float = 5.0) -> Document:
        """Remove a peer for good; ``done`` is false while it goes on: ask again to wait."""
        path = f"/v1/cluster/peers/{_part(peer_id)}" + _query({"wait": f"{wait_seconds:g}s"})
        return _document(self._send(Request("DELETE", path)))

    def transfer_leader(self, target: str | None = None) -> Document:
        """Hand leadership to a peer (None: the most advanced one)."""
        body = {"target": target} if target else {}
        return _document(self._write("/v1/cluster/leader:transfer", body, repeatable=False))

    def check_replicas(self, wait_seconds: float = 5.0) -> Document:
        """Have the peers compare their replicas; waits so long for those that are connected."""
        query = {"wait": f"{wait_seconds:g}s"}
        return _document(self._write("/v1/cluster:verify", {}, query=query))

    def reset_clock(self, now: str | None = None, by: str = "") -> Document:
        """Set the cluster's clock (RFC 3339; None: to that of the peer that answers)."""
        body = {"by": by} if now is None else {"by": by, "now": now}
        return _document(self._write("/v1/cluster/clock:reset", body, repeatable=False))

    def request(
        self, method: str, path: str, body: Any = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """Any route: JSON in, JSON out.  A POST carries a fresh Idempotency-Key."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if method == "POST":
            headers["Idempotency-Key"] = _new_key()
        data = None if body is None else json.dumps(body).encode()
        return self._send(Request(method, path, data, headers), timeout_seconds).json()

    # Plumbing

    def _read(
        self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = 0.0
    ) -> Reply:
        full = {"min_index": self.last_index, **(query or {})}
        if self._consistency != "linearizable":
            full["consistency"] = self._consistency
        return self._send(Request("GET", path + _query(full), patience_seconds=patience))

    def _write(
        self,
        path: str,
        body: Document,
        *,
        key: str = "",
        query: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        method: str = "POST",
    ) -> Reply:
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = json.dumps(body).encode()
        return self._send(
            Request(method, path + _query(query or {}), data, headers, repeatable=repeatable)
        )

    def _send(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        reply = self._transport.send(request, timeout_seconds)
        index = reply.headers.get("raftsched-index", "")
        if index.isdigit():
            self.last_index = max(self.last_index, int(index))
        return reply

    def _task(self, reply: Reply) -> Task:
        return Task(self, _document(reply))


def _document(reply: Reply) -> Document:
    document = reply.json()
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadReply(f"{reply.endpoint} answered no JSON object; is it a raftsched peer?")
    return document


def _requests(tasks: Iterable[Mapping[str, Any]], *, split: bool) -> Iterator[list[bytes]]:
    """NDJSON lines in groups that fit one request."""
    lines: list[bytes] = []
    size = 0
    for task in tasks:
        line = json.dumps(task, separators=(",", ":")).encode() + b"\n"
        if (
            split
            and lines
            and (len(lines) >= BATCH_TASKS_MAX or size + len(line) > BATCH_BYTES_MAX)
        ):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines


def _query(values: Mapping[str, Any]) -> str:
    """``?a=b`` of what is set; booleans as 1."""
    pairs = {
        name: "1" if value is True else value
        for name, value in values.items()
        if value is not None and value is not False and value != "" and value != 0
    }
    return "?" + urlencode(pairs) if pairs else ""


def _part(value: str) -> str:
    return quote(value, safe="")


def _new_key() -> str:
    return uuid.uuid4().hex
