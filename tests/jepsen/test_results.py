"""What is written about a run, and the page that shows it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from jepsen_like import recheck
from jepsen_like.availability import outages
from jepsen_like.checker import CHECKERS, Checker, judge
from jepsen_like.checker.verdict import Findings, always
from jepsen_like.cli import main
from jepsen_like.evidence import Evidence, read_evidence
from jepsen_like.history import FaultEvent, FinalTask
from jepsen_like.report.drawing import Scale
from jepsen_like.report.lanes import TASKS_SHOWN, task_lanes
from jepsen_like.report.page import page
from jepsen_like.report.plots import latency_plot
from jepsen_like.results import results
from jepsen_like.spans import spans
from jepsen_like.words import told
from tests.jepsen.builders import (
    MS,
    attempt,
    call,
    cancel,
    evidence,
    fault,
    final,
    finals,
    good,
    leads,
    read,
    submit,
    write_run,
)

#: A task's id as somebody hostile would choose it.
HOSTILE = "<script>alert('t')</script>\"&"

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """What a browser would make of a page: is it well formed, and does it fetch anything?"""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.kinds: dict[str, int] = {}
        self.wrong: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds[tag] = self.kinds.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds[tag] = self.kinds.get(tag, 0) + 1
        self._attributes(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "action", "srcset", "data") or name.startswith("on"):
                self.wrong.append(f"{tag} has {name}={value}")


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open, f"left open: {reader.open}"
    assert not reader.wrong, reader.wrong
    return reader


def broken() -> Evidence:
    """The good run, where in addition a hostile task ran twice at once and another was lost."""
    whole = good()
    more = [*attempt(HOSTILE, 100, 12_000, 12_600), *attempt(HOSTILE, 101, 12_300, 12_900, 2, "n2")]
    rows = whole.finals[0].tasks
    return msgspec.structs.replace(
        whole,
        calls=(submit(HOSTILE, 11_900, 11_910), submit("lost", 100, 110), *whole.calls),
        effects=tuple(sorted([*whole.effects, *more], key=lambda effect: effect.at)),
        finals=finals(*rows, FinalTask(HOSTILE, "succeeded", attempt=2)),
    )


def test_a_run_is_judged_from_its_files_and_leaves_results_and_a_page(tmp_path: Path) -> None:
    write_run(tmp_path, good())
    assert read_evidence(tmp_path).effects == good().effects
    found = recheck.recheck(tmp_path)
    assert found.valid is True, [v.doubts for v in found.checkers]
    written = json.loads((tmp_path / "results.json").read_text())
    assert (written["format"], written["valid"]) == (1, True)
    assert written["operations"]["read"]["latency_ms"]["p99"] > 0
    assert {checker["checker"] for checker in written["checkers"]} == {c.name for c in CHECKERS}
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert recheck.recheck(tmp_path) == found, "judging twice gives the same"


def test_the_command_says_what_is_wrong_and_by_its_exit_code(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["recheck", str(tmp_path)])
    assert missing.exit_code == 2
    assert "run.json: not there" in missing.stderr
    write_run(tmp_path, broken())
    told = CliRunner().invoke(main, ["recheck", str(tmp_path)])
    assert told.exit_code == 1
    assert "exclusion        BROKEN" in told.stdout


def test_every_field_of_the_results_is_in_the_readme() -> None:
    whole = broken()
    written = msgspec.to_builtins(results(whole, judge(whole)))
    text = (Path(__file__).parents[2] / "jepsen-like" / "README.md").read_text(encoding="utf-8")

    def names(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value)
        return {name for item in value for name in item} if isinstance(value, list) else set()

    wanted = set(written) | names(written["run"])
    for part in ("promises", "checkers", "outages"):
        wanted |= names(written[part])
    wanted |= set(written["operations"]["submit"]) | set(written["checkers"][0]["violations"][0])
    missing = {name for name in wanted if f"`{name}`" not in text}
    assert not missing, f"README.md does not say what {sorted(missing)} are"


def test_promises_are_the_worst_of_their_checkers() -> None:
    found = results(broken(), judge(broken()))
    by_name = {promise.name: promise.valid for promise in found.promises}
    assert (by_name["G1"], by_name["G3"]) == (False, False)
    assert (by_name["G5"], by_name["G8"]) == (None, None), "schedules and limits were not used"
    assert by_name["G4"] is True


def test_a_checker_that_fails_is_no_pass() -> None:
    def fails(whole: Evidence, findings: Findings) -> None:
        raise KeyError("at_ms")

    (verdict,) = judge(good(), (Checker("broken", "G5", "things", always, fails, "?"),))
    assert verdict.valid == "unknown"
    assert "KeyError('at_ms')" in verdict.doubts[0]


def test_an_outage_is_the_longest_gap_between_successes_around_a_fault() -> None:
    calls = [submit(f"t{k}", at, at + 10) for k, at in enumerate((900, 1_100, 3_500, 3_600, 9_000))]
    local = [
        read("t0", at, at + 5, "queued", consistency="local", peer=peer)
        for at, peer in ((1_050, "n2"), (1_090, "n1"), (1_300, "n2"), (1_400, "n2"))
    ]
    kill = spans(fault("kill", 1_000, 2_000, "n1"))
    (outage,) = outages([*calls, *local], kill, 4_000 * MS)
    assert (outage.write_ms, outage.read_ms, outage.local_ms) == (5_400.0, None, 250.0)


def test_the_silence_of_the_next_fault_is_not_that_of_the_one_before() -> None:
    local = [
        read("t0", at, at + 5, "queued", consistency="local", peer="n2")
        for at in (1_045, 1_995, 6_000)
    ]
    kills = spans([*fault("kill", 1_000, 1_500, "n1"), *fault("kill", 2_100, 2_500, "n2")])
    before, after = outages(local, kills, 9_000 * MS)
    assert before.local_ms == 950.0
    assert after.local_ms is None, "the only one that was asked was the target"


def test_the_page_stands_alone_and_is_well_formed() -> None:
    whole = broken()
    text = page(whole, results(whole, judge(whole)))
    reader = read_page(text)
    assert reader.kinds["script"] == 1, "a task's id is text"
    assert "http" not in text.replace("http-equiv", ""), "nothing is fetched"
    assert "@import" not in text
    assert "url(" not in text
    words = " ".join(reader.words)
    for wanted in ("A promise was broken.", "kill-leader", "The first violation", "not looked at"):
        assert wanted in words, wanted
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_the_first_violation_is_the_one_that_was_certain_first() -> None:
    whole = broken()
    text = page(whole, results(whole, judge(whole)))
    first = text.index("The first violation")
    assert "was acknowledged by n1 and is not on n1" in text[first : first + 600]


def test_a_page_of_a_good_run_accuses_nobody() -> None:
    text = page(good(), results(good(), judge(good())))
    read_page(text)
    assert "The first violation" not in text
    assert "Every promise that was looked at was held." in text


def test_a_page_of_a_run_without_evidence_can_be_read() -> None:
    whole = evidence()
    text = page(whole, results(whole, judge(whole)))
    assert "This is no pass." in " ".join(read_page(text).words)


def test_a_page_stays_small_when_thousands_of_tasks_ran() -> None:
    calls, effects = [], []
    for number in range(4_000):
        at = 100 + number * 7.0
        calls += [submit(f"t{number}", at, at + 3, peer="n2"), cancel(f"t{number}", at, at + 9)]
        calls.append(call("read", at, at + 1_500, {"id": f"t{number}"}))
        effects += attempt(f"t{number}", number + 1, at + 4, at + 60)
    whole = evidence(
        calls=calls,
        effects=effects,
        faults=[e for k in range(40) for e in fault("kill", 500 + k * 600, 800 + k * 600, "n1")],
        samples=leads("n1", 1, *range(0, 28_000, 100)),
        finals=(final("n1"),),
    )
    found = results(whole, judge(whole))
    text = page(whole, found)
    assert len(text) < 2_000_000
    assert text.count('aria-label="attempts of ') == TASKS_SHOWN
    assert f"{TASKS_SHOWN} of the 4000 tasks that ran" in text
    read_page(text)


def test_a_plot_shows_nothing_where_nothing_succeeded() -> None:
    calls = [submit("a", 1_000, 1_010), submit("b", 1_100, 1_110), submit("c", 20_000, 20_010)]
    picture = latency_plot(evidence(calls=calls), [], Scale(0, 30_000 * MS), "write")
    # Two stretches, of which each has a median, a 99th percentile and a slowest.
    assert picture.count("<polyline") == 6
    assert latency_plot(evidence(calls=calls), [], Scale(0, 30_000 * MS), "local") == ""


def test_a_task_that_was_cut_off_is_seen_before_one_that_was_tried_again() -> None:
    effects = attempt("cut", 1_000, 100, 200, exit=None)
    calls = [submit("cut", 0, 10)]
    for number in range(TASKS_SHOWN):
        calls.append(submit(f"again{number}", 0, 10, max_attempts=2))
        failed = attempt(f"again{number}", 2 * number + 1, 300, 400, exit=1)
        effects += [*failed, *attempt(f"again{number}", 2 * number + 2, 500, 600, 2)]
    whole = evidence(calls=calls, effects=effects)
    lanes, shown, of = task_lanes(whole, results(whole, judge(whole)), Scale(0, 1_000 * MS))
    assert (shown, of) == (TASKS_SHOWN, TASKS_SHOWN + 1)
    assert lanes.count("attempts of cut") == 1


def test_what_could_not_be_done_is_said_with_the_reason() -> None:
    skips = [FaultEvent(name, "skip", 0, detail="no network") for name in ("loss", "delay")]
    whole = msgspec.structs.replace(good(), faults=(*good().faults, *skips))
    found = results(whole, judge(whole))
    assert found.faults_skipped == {"loss": "no network", "delay": "no network"}
    assert "delay, loss (no network)" in page(whole, found)
    assert "not done: delay, loss" in told(found, Path("DIR"))
