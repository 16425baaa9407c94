"""The page: verdicts first, then the first violation, then everything over time."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from jepsen_like.checker import CHECKERS, Valid, Verdict, Violation
from jepsen_like.evidence import Evidence
from jepsen_like.report.drawing import WIDTH, Scale
from jepsen_like.report.lanes import (
    client_lanes,
    fault_lanes,
    leader_lane,
    peer_lanes,
    task_lanes,
)
from jepsen_like.report.plots import attempts_plot, latency_plot, rate_plot
from jepsen_like.results import Results
from jepsen_like.spans import spans

HERE = Path(__file__).parent

#: Violations and doubts that are listed for a checker.
LISTED_MAX = 10
#: Characters of a value in the table of a violation.
VALUE_MAX = 300

_WORDS: dict[Valid | None, tuple[str, str]] = {
    True: ("good", "✓ held"),
    False: ("bad", "✗ broken"),
    "unknown": ("doubt", "? not known"),
    None: ("soft", "– not looked at"),
}
_BANNERS: dict[Valid, str] = {
    True: "Every promise that was looked at was held.",
    False: "A promise was broken.",
    "unknown": "The evidence does not tell whether every promise was held. This is no pass.",
}
#: Fields of a record that its row of the table shows in columns of their own, or not at all.
_PLAIN = frozenset({"record", "n", "process", "peer", "f", "invoked_at", "ended_at", "outcome"})
_MOMENTS = ("invoked_at", "from_at", "at")
_ENDS = ("ended_at", "to_at")


def page(evidence: Evidence, found: Results) -> str:
    """The whole page, with nothing that is fetched from anywhere."""
    scale = Scale(found.from_at, found.to_at)
    style = (HERE / "style.css").read_text(encoding="utf-8")
    script = (HERE / "script.js").read_text(encoding="utf-8")
    title = f"{found.run['workload']}, seed {found.run['seed']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src '{_hash(script)}'">
<title>{escape(title)}</title><style>{style}</style></head><body>
{_head(found, title)}
{_promises(found)}
{_first_violation(found, scale)}
{_checkers(found)}
{_operations(found)}
{_timeline(evidence, found, scale)}
<script>{script}</script></body></html>
"""


def _hash(script: str) -> str:
    """What lets this very script run, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _verdict(valid: Valid | None) -> str:
    kind, words = _WORDS[valid]
    return f'<span class="verdict {kind}">{words}</span>'


def _head(found: Results, title: str) -> str:
    run = found.run
    calls = sum(verb.ok + verb.fail + verb.info for verb in found.operations.values())
    facts = {
        "nemesis": ", ".join(run["nemesis"]) or "none",
        "backend": run["backend"] or "not said",
        "peers": ", ".join(run["peers"]),
        "lasted": f"{(found.to_at - found.from_at) / 1e9:.1f} s",
        "calls": calls,
        "attempts": found.attempts,
        "leader changes": found.leader_changes,
        "faults": ", ".join(f"{n} × {fault}" for fault, n in found.faults.items()) or "none",
    }
    if found.faults_skipped:
        by_reason: dict[str, list[str]] = {}
        for fault, why in sorted(found.faults_skipped.items()):
            by_reason.setdefault(why or "no reason was given", []).append(fault)
        told = [f"{', '.join(faults)} ({why})" for why, faults in by_reason.items()]
        facts["asked for and not done"] = "; ".join(told)
    if found.faults_not_verified:
        facts["not seen by a probe"] = found.faults_not_verified
    items = "".join(
        f'<li><span class="soft">{escape(name)}</span> {escape(str(value))}</li>'
        for name, value in facts.items()
    )
    kind = _WORDS[found.valid][0]
    return (
        f"<h1>{escape(title)}</h1>"
        f'<div class="banner {kind}"><b>{_BANNERS[found.valid]}</b></div>'
        f'<ul class="facts">{items}</ul>'
    )


def _promises(found: Results) -> str:
    by_name = {verdict.checker: verdict for verdict in found.checkers}
    asks = {checker.name: checker.asks for checker in CHECKERS}
    rows = []
    for promise in found.promises:
        told = "".join(
            f"<div>{escape(asks.get(name, name))} "
            f'<span class="soft">{_counts(by_name[name])}</span></div>'
            for name in promise.checkers
        )
        rows.append(
            f"<tr><td>{promise.name}</td><td>{_verdict(promise.valid)}</td><td>{told}</td></tr>"
        )
    return (
        "<h2>Promises</h2><table><thead><tr><th></th><th>verdict</th>"
        "<th>what was asked, and of how much</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _counts(verdict: Verdict) -> str:
    counts = {k: n for k, n in verdict.checked.items() if k not in ("violations", "doubts")}
    told = ", ".join(f"{n:,} {k.replace('_', ' ')}" for k, n in counts.items())
    return escape(told or "nothing was looked at")


def _checkers(found: Results) -> str:
    parts = []
    for verdict in found.checkers:
        inside = [f"<p>{escape(doubt)}</p>" for doubt in verdict.doubts[:LISTED_MAX]]
        inside += [f"<pre>{escape(v.says)}</pre>" for v in verdict.violations[:LISTED_MAX]]
        inside += [
            f'<p class="soft">{escape(name)}: {escape(_value(value))}</p>'
            for name, value in verdict.measures.items()
            if value not in ({}, [])
        ]
        hidden = len(verdict.violations[LISTED_MAX:]) + len(verdict.doubts[LISTED_MAX:])
        if hidden:
            inside.append(f'<p class="soft">{hidden} more are in results.json.</p>')
        is_open = " open" if verdict.valid is not True else ""
        shown = None if verdict.vacuous and verdict.valid is True else verdict.valid
        parts.append(
            f"<details{is_open}><summary>{_verdict(shown)} <b>{escape(verdict.checker)}</b> "
            f'<span class="soft">{escape(verdict.promise)} {_counts(verdict)}</span></summary>'
            f"{''.join(inside)}</details>"
        )
    return f"<h2>Checkers</h2>{''.join(parts)}"


def _first_violation(found: Results, scale: Scale) -> str:
    """The violation that was certain first, with the records that show it."""
    every = [(v, verdict) for verdict in found.checkers for v in verdict.violations]
    if not every:
        return ""

    def when(pair: tuple[Violation, Verdict]) -> int:
        # One without an instant was found at the end.
        return pair[0].at[-1] if pair[0].at else found.to_at

    violation, verdict = min(every, key=when)
    at = f" at {scale.seconds(violation.at[-1])} s" if violation.at else ""
    rows = "".join(_record(record, scale) for record in violation.history)
    table = (
        '<div class="scroll"><table><thead><tr><th>from, s</th><th>to, s</th><th>what</th>'
        f"<th>where</th><th>more</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    if violation.left_out:
        table = (
            f'<p class="soft">{violation.left_out} records before these are not shown.</p>{table}'
        )
    return (
        f"<h2>The first violation</h2><p>{_verdict(False)} {escape(verdict.checker)} "
        f'{escape(verdict.promise)}<span class="soft">{at}</span></p>'
        f"<pre>{escape(violation.says)}</pre>{table if rows else ''}"
    )


def _record(record: dict[str, Any], scale: Scale) -> str:
    def moment(names: tuple[str, ...]) -> str:
        at = next((record[name] for name in names if record.get(name) is not None), None)
        return "" if at is None else f"{scale.seconds(at):.3f}"

    is_open = record["record"] == "call" and record.get("ended_at") is None
    what = record["record"]
    if what == "call":
        what = f"{record['f']}: {record['outcome']}"
    elif what == "attempt":
        what = f"attempt {record['number']} of {record['task']}"
    where = record.get("peer") or record.get("node") or ""
    shown = _PLAIN | set(_MOMENTS) | set(_ENDS) | {"node", "task", "number", "starts"}
    more = {k: v for k, v in record.items() if k not in shown and v not in (None, "", {}, [])}
    return (
        f'<tr><td class="number">{moment(_MOMENTS)}</td>'
        f'<td class="number">{"open" if is_open else moment(_ENDS)}</td>'
        f"<td>{escape(str(what))}</td><td>{escape(str(where))}</td>"
        f"<td><code>{escape(_value(more))}</code></td></tr>"
    )


def _value(value: Any) -> str:
    told = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return told if len(told) <= VALUE_MAX else told[: VALUE_MAX - 1] + "…"


def _operations(found: Results) -> str:
    rows = []
    for verb, counts in found.operations.items():
        took = counts.latency_ms
        cells = [counts.ok, counts.fail, counts.info, took.get("p50", ""), took.get("p99", "")]
        numbers = "".join(
            f'<td class="number">{cell}</td>' for cell in [*cells, took.get("max", "")]
        )
        rows.append(f"<tr><td>{escape(verb)}</td>{numbers}</tr>")
    head = "".join(
        f"<th>{word}</th>" for word in ("", "ok", "fail", "open", "p50 ms", "p99 ms", "max ms")
    )
    return (
        f'<h2>Calls</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _key(**kinds: str) -> str:
    told = "".join(
        f'<span><b class="{kind.replace("_", "-")}"></b>{escape(words)}</span>'
        for kind, words in kinds.items()
    )
    return f'<div class="key">{told}</div>'


def _timeline(evidence: Evidence, found: Results, scale: Scale) -> str:
    faults = spans(evidence.faults)
    buttons = [f'<button type="button" data-from="0" data-to="{WIDTH}">whole run</button>']
    buttons += [
        f'<button type="button" data-from="{scale.x(phase.from_)}" data-to="{scale.x(phase.to)}">'
        f"{escape(phase.name)}</button>"
        for phase in evidence.run.phases
    ]
    tasks, shown, of = task_lanes(evidence, found, scale)
    ticks = '<div class="row"><div></div><div class="ticks"></div></div>'
    peers = {f"peer{k % 7}": peer for k, peer in enumerate(sorted(evidence.run.peers))}
    latencies = "".join(
        latency_plot(evidence, faults, scale, name) for name in ("write", "read", "local")
    )
    seconds = (scale.to_at - scale.from_at) / 1e9
    return f"""<h2>Over time</h2>
<section id="timeline" data-width="{WIDTH}" data-seconds="{seconds}">
<p class="soft">Drag over any lane to look closer; point at a bar to read it.</p>
<div class="tools">{"".join(buttons)}</div>{ticks}
{fault_lanes(evidence, scale)}{leader_lane(evidence, scale)}
{_key(**peers)}
{peer_lanes(evidence, scale)}
{_key(leads="leads", ready="ready", unready="there, not ready", away="not reached")}
{rate_plot(evidence, faults, scale)}
{_key(ok_write="writes", ok_read="reads", fail="refused", info="open", band="a fault")}
{latencies}{_key(p50="median", p99="99 %", slowest="slowest")}
{attempts_plot(evidence, faults, scale)}{ticks}
<h2>Clients</h2>{_key(ok="ok", fail="refused", info="open")}
{client_lanes(evidence, scale)}{ticks}
<h2>Tasks</h2><p class="soft">{shown} of the {of} tasks that ran: those accused, then those cut off
or hit by a fault, then those with the most attempts. Colours are nodes; a pale bar said no end.</p>
{tasks}{ticks}</section>"""
