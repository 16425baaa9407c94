"""``python -m drive MODULE COUNT``: from the first submission to the last result, as JSON."""

from __future__ import annotations

import importlib
import json
import sys
import time
from types import ModuleType

SECONDS_MAX = 300.0
POLL_SECONDS = 0.01


def run(module: ModuleType, count: int) -> dict[str, float]:
    """Seconds of submitting alone, and until every result was kept."""
    begin = time.perf_counter()
    for _ in range(count):
        module.submit()
    submitted = time.perf_counter()
    while module.kept() < count:
        if time.perf_counter() - begin > SECONDS_MAX:
            sys.exit(f"{module.kept()} of {count} results after {SECONDS_MAX:g} s")
        time.sleep(POLL_SECONDS)
    return {"submitting": submitted - begin, "seconds": time.perf_counter() - begin}


def main() -> None:
    """One task until connections and workers are warm, then all the others."""
    module = importlib.import_module(sys.argv[1])
    module.forget()
    run(module, 1)
    module.forget()
    print(json.dumps(run(module, int(sys.argv[2]))))


if __name__ == "__main__":
    main()
