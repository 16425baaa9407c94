"""Whose a task is, and what its asker allows."""

from __future__ import annotations

from jepsen_like.asked import Book, Terms
from jepsen_like.history import FinalTask
from tests.jepsen.builders import call, evidence, finals, submit


def test_a_retry_has_the_terms_of_what_it_tries_again() -> None:
    retry = call("retry", 50, 60, {"id": "t", "key": "r"}, {"id": "t2"})
    lost = call("retry", 70, None, {"id": "t", "key": "s"})
    refused = call("retry", 80, 90, {"id": "t", "key": "u"})
    book = Book(evidence(calls=[submit("t", 0, 10, idempotent=True), retry, lost, refused]))
    assert sorted(book.asked) == ["t", "t2"]
    assert book.terms("t2").may_overlap


def test_runs_of_schedules_and_parts_have_the_terms_of_what_they_are_of() -> None:
    document = {"name": "s", "task": {"delivery": "at_most_once", "limits": ["k"]}}
    rows = [FinalTask("run", "queued", schedule="s"), FinalTask("part", "queued", parent="m")]
    calls = [
        call("put-schedule", 0, 10, document, {"name": "s"}),
        call("put-schedule", 0, 10, {"name": "plain"}, {"name": "plain"}),
        call("slots", 20, 30, {"name": "plain"}, {"slots": [{"at_ms": 1, "task": "p-1"}]}),
        submit("m", 0, 10, on_lease_loss="continue", max_attempts=4),
    ]
    book = Book(evidence(calls=calls, finals=finals(*rows)))
    assert book.terms("run") == Terms(at_most_once=True, limits=("k",))
    assert (book.owner("p-1"), book.terms("p-1")) == ("schedule:plain", Terms())
    for part in ("part", "m.3", "m.check.0", "part.1"):
        assert book.owner(part) == "m"
        assert book.terms(part) == Terms(may_overlap=True, max_attempts=4)
    assert book.owner("nobody.s") is None
    assert book.terms("nobody.s") == Terms()


def test_a_task_that_is_part_of_itself_belongs_to_nobody() -> None:
    rows = [FinalTask("a", "queued", parent="b"), FinalTask("b", "queued", parent="a")]
    assert Book(evidence(finals=finals(*rows))).owner("a") is None


def test_what_never_runs_is_said_by_the_workload_or_the_task() -> None:
    calls = [submit("t", 0, 10), submit("held", 0, 10, held=True)]
    assert Book(evidence("register", calls=calls)).terms("t").is_held
    mixed = Book(evidence("mixed", calls=calls))
    assert (mixed.terms("t").is_held, mixed.terms("held").is_held) == (False, True)
