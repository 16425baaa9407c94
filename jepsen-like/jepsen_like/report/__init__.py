"""``report.html``: one page that shows what happened and what follows, without any network.

`lanes` and `plots` choose what is drawn, bound it, and draw it as SVG; `page` is the HTML around
it, with `style.css` and `script.js` inside.
"""

from __future__ import annotations

from pathlib import Path

from jepsen_like.evidence import Evidence
from jepsen_like.report.page import page
from jepsen_like.results import Results

REPORT = "report.html"


def write_report(directory: Path, evidence: Evidence, found: Results) -> None:
    """Write the page into the run's directory."""
    rough = directory / (REPORT + ".part")
    rough.write_text(page(evidence, found), encoding="utf-8")
    rough.replace(directory / REPORT)
