"""Rounds of probes: what a majority confirms, and what the answers tell of clocks and versions."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.raft.membership import Address, Configuration, Membership
from raftsched.raft.quorum import CLOCK_KEPT_SECONDS, Prober, answer

#: The other peer's wall clock at this peer's monotonic 0.
BASE_MS = 1_700_000_000_000


class Bench:
    """A prober of term 4 that leads, and the peers it asks."""

    def __init__(self, *others: str) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        voters = {peer_id: Address("") for peer_id in ("n1", *others)}
        self.prober = Prober(Membership("n1", Configuration(voters)), self._send)
        self.prober.reset(4)

    def _send(self, peer_id: str, message: dict[str, Any]) -> bool:
        self.sent.append((peer_id, message))
        return True

    def ask(self, peer_id: str, sent_at: float, back_at: float, wall_ms: int) -> None:
        """One round, answered by one peer."""
        self.prober.begin(sent_at)
        [probe] = [message for peer, message in self.sent if peer == peer_id][-1:]
        self.prober.answered(peer_id, answer(probe, wall_ms, {"software": "x"}), back_at)


def test_a_round_is_confirmed_by_a_majority_with_this_peer_counted() -> None:
    bench, done = Bench("n2", "n3"), []
    bench.prober.begin(10.0, lambda: done.append(1))
    assert (done, bench.prober.confirmed_sent_at) == ([], None)
    bench.prober.answered("n2", answer(bench.sent[0][1], 0, {}), 10.5)
    assert (done, bench.prober.confirmed_sent_at) == ([1], 10.0)


def test_answers_of_strangers_and_of_other_terms_count_for_nothing() -> None:
    bench = Bench("n2", "n3")
    bench.prober.begin(10.0)
    probe = bench.sent[0][1]
    bench.prober.answered("n9", answer(probe, 0, {}), 10.5)
    bench.prober.answered("n2", answer({**probe, "term": 3}, 0, {}), 10.5)
    assert bench.prober.confirmed_sent_at is None
    assert bench.prober.views == {}


def test_a_clock_is_taken_to_have_been_read_halfway() -> None:
    bench = Bench("n2", "n3")
    bench.ask("n2", sent_at=10.0, back_at=10.4, wall_ms=BASE_MS + 10_200)
    view = bench.prober.views["n2"]
    assert view.clock_base_ms == pytest.approx(BASE_MS, abs=0.01)
    assert view.clock_error_ms == pytest.approx(200)
    assert (view.heard_at, view.measured_at, view.about) == (10.4, 10.4, {"software": "x"})


def test_an_answer_behind_the_majoritys_still_tells_the_clock() -> None:
    bench = Bench("n2", "n3")
    bench.prober.begin(10.0)
    for peer_id, probe in list(bench.sent):
        bench.prober.answered(peer_id, answer(probe, BASE_MS, {}), 10.0)
    assert sorted(bench.prober.views) == ["n2", "n3"]


def test_the_more_exact_of_two_measurements_counts_while_it_is_fresh() -> None:
    bench = Bench("n2", "n3")
    bench.ask("n2", 10.0, 10.002, BASE_MS)
    bench.ask("n2", 10.1, 10.9, BASE_MS)
    view = bench.prober.views["n2"]
    assert (view.measured_at, view.heard_at) == (10.002, 10.9)
    assert view.clock_error_ms == pytest.approx(1)
    later = 10.002 + CLOCK_KEPT_SECONDS
    bench.ask("n2", later, later + 0.8, BASE_MS)
    assert bench.prober.views["n2"].clock_error_ms == pytest.approx(400)


def test_a_peer_of_a_version_before_sends_a_probe_back_as_it_was() -> None:
    bench = Bench("n2", "n3")
    bench.prober.begin(10.0)
    bench.prober.answered("n2", {**bench.sent[0][1], "type": "probe_ok"}, 10.5)
    view = bench.prober.views["n2"]
    assert (view.clock_base_ms, view.about, view.heard_at) == (None, {}, 10.5)
    assert bench.prober.confirmed_sent_at == 10.0


def test_nothing_of_an_earlier_term_is_known_in_the_next() -> None:
    bench = Bench("n2", "n3")
    bench.ask("n2", 10.0, 10.1, BASE_MS)
    bench.prober.reset(5)
    assert bench.prober.views == {}
    assert bench.prober.confirmed_sent_at is None
