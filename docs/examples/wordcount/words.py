"""The most frequent words of a directory of text: a call for each file, and one that adds them up.

raftsched dev --app words:app          # in this directory
python words.py /usr/share/common-licenses
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from raftsched import App, current

app = App("words")

WORD = re.compile(r"[^\W\d_]+")


@app.task
def files(directory: str) -> list[str]:
    """All files of a directory, by their paths."""
    return sorted(str(path) for path in Path(directory).resolve().rglob("*") if path.is_file())


@app.task(retries=2, timeout="5m")
def count(path: str) -> dict[str, int]:
    """How often each word is in one file."""
    text = Path(path).read_text(encoding="utf-8", errors="replace").lower()
    return Counter(WORD.findall(text))


@app.task
def total(counts: list[dict[str, int]], most: int = 10) -> dict[str, int]:
    """The most frequent words of all."""
    found: Counter[str] = Counter()
    for number, one in enumerate(counts, 1):
        found.update(one)
        current().report_progress(number / len(counts), f"{number} of {len(counts)} files")
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most])


def main(directory: str) -> int:
    """Count in the cluster, count again here, and compare."""
    handle = app.map(count, files.bind(directory)).then(total).submit()
    words = handle.result(timeout_seconds=300)
    progress = handle.progress()
    print(f"{progress.done} tasks, {handle.id}")
    for word, times in words.items():
        print(f"{times:8,}  {word}")
    here = total([count(path) for path in files(directory)])
    if words != here:
        print(f"counted here it is {here}", file=sys.stderr)
        return 1
    print("ok: counted here it is the same")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/common-licenses"))
