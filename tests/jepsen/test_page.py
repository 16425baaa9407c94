"""The report in a real browser, where there is one (apt-get install chromium)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jepsen_like.recheck import recheck
from tests.jepsen.builders import attempt, submit, write_run
from tests.jepsen.test_results import broken

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium"),
]

#: A page around the report, which is as wide as a telephone or a screen and otherwise left alone.
#: It measures it, drags over a bar of a lane, and presses a button.
AROUND = """<!doctype html><meta charset="utf-8">
<iframe id="page" style="border: 0; width: WIDTHpx; height: 900px" srcdoc="REPORT"></iframe>
<pre id="found"></pre>
<script>
"use strict";
const frame = document.getElementById("page");
frame.addEventListener("load", () => {
  const inside = frame.contentDocument;
  const views = () => [...inside.querySelectorAll("svg.time")].map(
    (svg) => svg.getAttribute("viewBox").split(" ").map(Number));
  const found = {
    scrolls: inside.documentElement.scrollWidth, shows: inside.documentElement.clientWidth,
    before: views(),
  };
  const svg = inside.querySelector("svg.time");
  const box = svg.getBoundingClientRect();
  const drag = (name, share) => (svg.querySelector("rect") || svg).dispatchEvent(
    new frame.contentWindow.PointerEvent(
      name, { bubbles: true, clientX: box.left + share * box.width, clientY: box.top + 2 }));
  drag("pointerdown", 0.75);
  drag("pointermove", 0.5);
  drag("pointerup", 0.25);
  found.dragged = views();
  found.ticks = [...inside.querySelector(".ticks").children].map((tick) => tick.textContent);
  drag("pointerdown", 0.5);
  drag("pointerup", 0.5);
  found.clicked = views();
  inside.querySelector("button[data-from]").click();
  found.whole = views();
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


def browse(page: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a network, and print what its scripts made of it."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND",
               *words, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)


def look(directory: Path, width: int) -> dict[str, Any]:
    """What the page around the report of a directory found in it."""
    report = (directory / "report.html").read_text(encoding="utf-8")
    around = directory / "around.html"
    around.write_text(AROUND.replace("WIDTH", str(width)).replace("REPORT", escape(report)))
    done = browse(around, "--window-size=1400,1000")
    trouble = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not trouble, trouble
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    told: dict[str, Any] = json.loads(unescape(found[1]))
    return told


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_shows_what_broke_and_its_scripts_do_not_fail(tmp_path: Path, width: int) -> None:
    write_run(tmp_path, broken())
    recheck(tmp_path)
    done = browse(tmp_path / "report.html", f"--window-size={width},900")
    assert "A promise was broken." in done.stdout
    assert "<svg" in done.stdout
    trouble = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not trouble, trouble


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_is_no_wider_than_what_it_is_shown_on(tmp_path: Path, width: int) -> None:
    whole = broken()
    # An id with nowhere to break it.
    name = "import_of_all_that_came_in_since_yesterday_" * 3
    twice = [*attempt(name, 200, 13_000, 13_600), *attempt(name, 201, 13_300, 13_900, 2, "n2")]
    effects = tuple(sorted([*whole.effects, *twice], key=lambda effect: effect.at))
    calls = (*whole.calls, submit(name, 12_900, 12_910))
    whole = msgspec.structs.replace(whole, effects=effects, calls=calls)
    write_run(tmp_path, whole)
    recheck(tmp_path)
    found = look(tmp_path, width)
    assert found["shows"] in range(width - 20, width + 1)
    assert found["scrolls"] <= found["shows"], f"it is {found['scrolls']} px wide"


@pytest.mark.parametrize("width", [390, 1200])
def test_a_drag_over_a_lane_looks_closer_and_a_button_goes_back(tmp_path: Path, width: int) -> None:
    write_run(tmp_path, broken())
    recheck(tmp_path)
    found = look(tmp_path, width)
    assert len(found["before"]) > 10
    (whole,) = {view[2] for view in found["before"]}
    # From three quarters back to one: the middle half, of every lane alike.
    assert {view[0] for view in found["dragged"]} == {round(whole / 4)}
    assert {view[2] for view in found["dragged"]} == {round(whole / 2)}
    assert [view[3] for view in found["dragged"]] == [view[3] for view in found["before"]]
    assert (found["ticks"][0], len(found["ticks"])) == ("7.50 s", 4 if width == 390 else 9)
    assert found["clicked"] == found["dragged"], "a click is no drag"
    assert found["whole"] == found["before"]
