"""The results of a run in words."""

from __future__ import annotations

from pathlib import Path

from jepsen_like.results import Results

_WORDS = {True: "held", False: "BROKEN", "unknown": "in doubt", None: "not looked at"}


def told(found: Results, directory: Path) -> str:
    """A line for each checker that looked at something, and what broke."""
    lines = []
    for verdict in found.checkers:
        if verdict.vacuous and verdict.valid is True:
            continue
        counts = ", ".join(f"{count} {what}" for what, count in verdict.checked.items())
        lines.append(
            f"{verdict.promise:<4}{verdict.checker:<17}{_WORDS[verdict.valid]:<10}{counts}"
        )
        lines += [f"       {violation.says}" for violation in verdict.violations[:5]]
        lines += [f"       ? {doubt}" for doubt in verdict.doubts[:5]]
    if found.faults_skipped:
        lines.append(f"not done: {', '.join(sorted(found.faults_skipped))}; why is in the report")
    operations = sum(verb.ok for verb in found.operations.values())
    faults = sum(found.faults.values())
    lines.append(
        f"{_WORDS[found.valid]}: {operations} operations, {found.attempts} attempts, "
        f"{faults} faults, {found.leader_changes} leader changes; {directory}"
    )
    return "\n".join(lines)
