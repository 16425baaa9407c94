"""Pipelines of both clients: many submissions in few requests, each with its own end."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from raftsched.client import Client, errors, gathering
from tests.unit.client.both import Connect
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence


def made(asked: Asked) -> Answer:
    """A task for each line, its name for an id; a line that is ``bad`` is refused."""
    answers = []
    for number, line in enumerate(asked.body.splitlines()):
        name = json.loads(line)["name"]
        answer = {"id": name, "status": 201}
        if name.startswith("bad"):
            pointers = [{"pointer": f"/{number}/priority", "message": "no"}]
            answer = {"line": number, "status": 422, "code": "invalid", "errors": pointers}
        answers.append(json.dumps(answer).encode() + b"\n")
    return Answer(200, b"".join(answers))


def lines(asked: Asked) -> int:
    return asked.body.count(b"\n")


def test_each_submission_gets_its_own_answer_and_few_requests_are_made(connect: Connect) -> None:
    count = 3 * gathering.GROUP_TASKS_MAX
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=60) as pipe:
            submissions = [pipe.submit(["true"], name=f"t{n}") for n in range(count)]
        assert [one.result().id for one in submissions] == [f"t{n}" for n in range(count)]
        assert all(one.is_done for one in submissions)
    assert [lines(asked) for asked in stub.asked] == [gathering.GROUP_TASKS_MAX] * 3
    assert {asked.path for asked in stub.asked} == {"/v1/tasks:batch"}
    assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 3


def test_a_lone_submission_goes_without_being_pushed(connect: Connect) -> None:
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with client.pipeline() as pipe:
            assert pipe.submit(["true"], name="a").result(5).id == "a"
        assert len(stub.asked) == 1


def test_leaving_sends_what_lingers(connect: Connect) -> None:
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=60) as pipe:
            submission = pipe.submit(["true"], name="a")
            assert not submission.is_done
        assert submission.result(0).id == "a"


def test_a_bad_submission_fails_alone_and_as_if_it_had_been_single(connect: Connect) -> None:
    with Stub(made) as stub, connect(stub.address, token="") as client:
        failed = pytest.raises(errors.SubmissionsFailed, match="1 submissions failed")
        with failed as left, client.pipeline(linger_seconds=60) as pipe:
            good, bad = pipe.submit(name="a"), pipe.submit(name="bad")
            last = pipe.submit(name="c")
        assert (good.result().id, last.result().id) == ("a", "c")
        with pytest.raises(errors.InvalidRequest) as caught:
            bad.result()
    assert [error["pointer"] for error in caught.value.errors] == ["/priority"]
    assert (left.value.count, left.value.applied) == (1, False)


def test_an_error_that_was_looked_at_is_not_raised_again(connect: Connect) -> None:
    with (
        Stub(made) as stub,
        connect(stub.address, token="") as client,
        client.pipeline() as pipe,
    ):
        bad = pipe.submit(name="bad")
        with pytest.raises(errors.InvalidRequest):
            bad.result()


@pytest.mark.parametrize(
    "trouble",
    [problem(503, "no-leader"), problem(504, "outcome-unknown"), Answer(hang_up=True)],
    ids=["503", "504", "hang-up"],
)
def test_a_request_is_repeated_as_it_was(connect: Connect, trouble: Answer) -> None:
    left = [trouble, trouble]

    def respond(asked: Asked) -> Answer:
        return left.pop() if left else made(asked)

    with Stub(respond) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=60) as pipe:
            submissions = [pipe.submit(name=f"t{n}") for n in range(3)]
        assert [one.result().id for one in submissions] == ["t0", "t1", "t2"]
    assert len(stub.asked) == 3
    assert len({(asked.headers["idempotency-key"], asked.body) for asked in stub.asked}) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "applied"),
    [
        (problem(403, "forbidden"), errors.Forbidden, False),
        (Answer(200, b'{"id": "a"}\n'), errors.BadReply, "unknown"),
        (problem(504, "outcome-unknown", Retry_After="60"), errors.OutcomeUnknown, "unknown"),
    ],
    ids=["403", "short", "504"],
)
def test_what_befalls_a_request_befalls_its_submissions(
    connect: Connect, answer: Answer, kind: type[Exception], applied: object
) -> None:
    with Stub(sequence(answer)) as stub, connect(stub.address, token="") as client:
        with pytest.raises(errors.SubmissionsFailed) as left, client.pipeline() as pipe:
            submissions = [pipe.submit(name=f"t{n}") for n in range(2)]
        for submission in submissions:
            with pytest.raises(kind):
                submission.result()
    assert (left.value.count, left.value.applied) == (2, applied)


def test_a_submission_too_long_for_a_line_is_not_sent(connect: Connect) -> None:
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=60) as pipe:
            good = pipe.submit(name="a")
            long = pipe.submit(name="b" * gathering.LINE_BYTES_MAX)
            with pytest.raises(errors.InvalidRequest, match=str(gathering.LINE_BYTES_MAX)):
                long.result()
        assert good.result().id == "a"
    assert [lines(asked) for asked in stub.asked] == [1]


def test_requests_are_bounded_in_bytes(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "GROUP_BYTES_MAX", 1_000)
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=60) as pipe:
            submissions = [pipe.submit(name=f"{n}-" + "x" * 300) for n in range(10)]
        assert len({one.result().id for one in submissions}) == 10
    assert max(len(asked.body) for asked in stub.asked) <= 1_000


def test_the_caller_waits_for_room(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "GROUP_TASKS_MAX", 5)
    monkeypatch.setattr(gathering, "WAITING_TASKS_MAX", 10)
    submitted, answered, most = 0, 0, 0
    lock = threading.Lock()

    def respond(asked: Asked) -> Answer:
        nonlocal answered
        with lock:
            answered += lines(asked)
        return made(asked)

    with (
        Stub(respond) as stub,
        connect(stub.address, token="") as client,
        client.pipeline(linger_seconds=60) as pipe,
    ):
        for number in range(100):
            pipe.submit(name=f"t{number}")
            submitted += 1
            with lock:
                most = max(most, submitted - answered)
    assert answered == 100
    assert most <= 10


def test_left_by_an_exception_it_sends_nothing_more(connect: Connect) -> None:
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with pytest.raises(KeyError), client.pipeline(linger_seconds=60) as pipe:
            submission = pipe.submit(name="a")
            raise KeyError
        with pytest.raises(errors.ConnectionFailed, match="left before") as caught:
            submission.result()
        with pytest.raises(RuntimeError, match="left"):
            pipe.submit(name="b")
    assert (stub.asked, caught.value.applied) == ([], False)


def test_nothing_is_taken_before_the_block(connect: Connect) -> None:
    with connect("127.0.0.1:1", token="") as client:
        pipe = client.pipeline()
        with pytest.raises(RuntimeError, match="not entered"):
            pipe.submit(name="a")


def test_waiting_for_an_answer_in_vain_says_so(connect: Connect) -> None:
    gate = threading.Event()

    def respond(asked: Asked) -> Answer:
        gate.wait(5)
        return made(asked)

    with Stub(respond) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=0) as pipe:
            submission = pipe.submit(name="a")
            with pytest.raises(errors.WaitTimeout):
                submission.result(0.02)
            gate.set()
        assert submission.result().id == "a"


def test_threads_share_a_pipeline() -> None:
    with (
        Stub(made) as stub,
        Client(stub.address, token="") as client,
        client.pipeline() as pipe,
        ThreadPoolExecutor(8) as pool,
    ):
        names = [f"t{n}" for n in range(400)]
        done = pool.map(lambda name: pipe.submit(name=name).result(10).id, names)
        assert list(done) == names
    assert len(stub.asked) < 400


def test_only_so_many_requests_are_under_way(connect: Connect) -> None:
    under_way, most = 0, 0
    lock, full = threading.Lock(), threading.Event()

    def respond(asked: Asked) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 2:
                full.set()
        full.wait(5)
        with lock:
            under_way -= 1
        return made(asked)

    with (
        Stub(respond) as stub,
        connect(stub.address, token="") as client,
        client.pipeline(requests=2, linger_seconds=60) as pipe,
    ):
        for number in range(4 * gathering.GROUP_TASKS_MAX):
            pipe.submit(name=f"t{number}")
    assert (len(stub.asked), most) == (4, 2)


def test_errors_that_were_all_looked_at_are_not_raised_however_many(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "ERRORS_KEPT_MAX", 2)
    monkeypatch.setattr(gathering, "GROUP_TASKS_MAX", 1)
    with Stub(made) as stub, connect(stub.address, token="") as client:
        with client.pipeline(linger_seconds=0) as pipe:
            for _ in range(9):
                with pytest.raises(errors.InvalidRequest):
                    pipe.submit(name="bad").result(5)
        with pytest.raises(errors.SubmissionsFailed) as left, client.pipeline() as pipe:
            for _ in range(9):
                pipe.submit(name="bad")
    assert left.value.count == 9
