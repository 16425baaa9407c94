"""The application whose calls ``raftsched bench python`` counts."""

from __future__ import annotations

from raftsched.app import App

app = App("bench")


@app.task
def nothing() -> None:
    """Nothing, as fast as it goes."""


@app.task
async def nothing_async() -> None:
    """The same as a coroutine."""


def bare() -> None:
    """What the pool of the standard library calls, beside ours."""
