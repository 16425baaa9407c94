"""G10, in part: no peer crashed, and none logged what must not be.

A fault may allow its targets to end with a code that is documented for it (``exit:70``: a disk that
fails to sync; ``exit``: with any) or to log an exception (``traceback``); what the harness itself
did is ``asked`` in ``run.json``.
"""

from __future__ import annotations

from jepsen_like.checker.verdict import Checker, Findings
from jepsen_like.evidence import Evidence, PeerLog
from jepsen_like.spans import spans

#: What is looked for -> what it means.
NEVER = {
    "truncating already-applied": "it truncated entries that it had applied",
}
#: The same, unless a fault allows ``traceback``.
RARELY = {
    "Traceback (most recent call last)": "an unhandled exception",
    "exception was never retrieved": "an exception that nobody looked at",
    "Unhandled exception": "an unhandled exception",
    "Fatal Python error": "the interpreter crashed",
}
#: An end is noticed this much later at most.
LATE_NS = 2_000_000_000
#: Lines shown with one that was found.
CONTEXT_LINES = 12


def look(evidence: Evidence, findings: Findings) -> None:
    allowed: dict[str, set[str]] = {}
    faults = spans(evidence.faults)
    for span in faults:
        for peer in span.targets:
            allowed.setdefault(peer, set()).update(span.allows)
    for log in evidence.logs:
        findings.saw("lines", len(log.lines))
        _log(log, "traceback" in allowed.get(log.peer, ()), findings)
    for ended in evidence.run.exits:
        findings.saw("exits")
        is_allowed = any(
            ended.peer in span.targets
            and {"exit", f"exit:{ended.code}"} & set(span.allows)
            and span.from_at <= ended.at <= span.to_at + LATE_NS
            for span in faults
        )
        if not ended.asked and not is_allowed:
            findings.broken(
                f"{ended.peer} ended by itself with code {ended.code}",
                [ended.at],
                [ended.peer],
                [ended],
            )
    missing = set(evidence.run.peers) - {log.peer for log in evidence.logs}
    for peer in sorted(missing) if not evidence.run.is_attached else ():
        findings.doubt(f"there is no log of {peer}")


def _log(log: PeerLog, may_raise: bool, findings: Findings) -> None:
    if log.is_cut:
        findings.doubt(f"the log of {log.peer} is longer than is looked at")
    # The next line of the same exception is not news.
    until = 0
    for number, line in enumerate(log.lines):
        if number < until:
            continue
        meaning = next((why for text, why in NEVER.items() if text in line), None)
        if meaning is None:
            meaning = next((why for text, why in RARELY.items() if text in line), None)
            if meaning is not None and may_raise:
                findings.saw("exceptions_allowed")
                meaning = None
        if meaning is not None:
            until = number + CONTEXT_LINES
            shown = "\n".join(log.lines[max(0, number - 2) : until])
            findings.broken(
                f"{log.peer}, line {number + 1} of its log: {meaning}:\n{shown}", [], [log.peer]
            )


CHECKER = Checker(
    "logs",
    "G10",
    "lines",
    lambda evidence: not evidence.run.is_attached,
    look,
    "Did no peer crash, end by itself, or log what must not be?",
)
