"""An application: workers call its functions, and started as a program it is the client.

    raftsched dev --app images:app       # in one terminal, in this directory
    python images.py                     # in another
"""

import asyncio
import time

from raftsched import App, current

app = App("images")


@app.task(retries=3, queue="images", timeout="5m")
def resize(path: str, width: int = 800) -> dict:
    """Stands for work that takes a while and says how far it is."""
    for step in range(4):
        current().raise_if_cancelled()
        current().report_progress(step / 4, f"{path}: step {step}")
        time.sleep(0.05)
    print("resized", path)
    return {"path": path, "width": width, "attempt": current().attempt}


@app.task(timeout="30s")
async def fetch(url: str) -> str:
    """A coroutine: many of them share a worker."""
    await asyncio.sleep(0.1)
    return f"{url} fetched with token {current().fencing_token}"


if __name__ == "__main__":
    print("here:", resize("a.png", width=10))
    one = resize.submit("a.png", width=100)
    print("there:", one.result(timeout_seconds=30))
    many = resize.submit_many([("b.png", 200), ("c.png", 300), "d.png"])
    print("widths:", [handle.result(timeout_seconds=30)["width"] for handle in many])
    print(fetch.submit("http://example.org").result(timeout_seconds=30)[:18])
    once = resize.with_options(idempotency_key="e.png-2026-12-01", priority=90)
    print("the same task:", once.submit("e.png").id == once.submit("e.png").id)
