"""Clients of the public HTTP API; they import nothing internal."""

from typing import TYPE_CHECKING, Any

from raftsched.client.sync import BatchResult, Client, Progress, Task

if TYPE_CHECKING:
    from raftsched.client.aio import AsyncClient, AsyncTask

__all__ = ["AsyncClient", "AsyncTask", "BatchResult", "Client", "Progress", "Task"]


def __getattr__(name: str) -> Any:
    # With asyncio it takes as long to import as all the rest.
    if name not in ("AsyncClient", "AsyncTask"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from raftsched.client import aio

    return getattr(aio, name)
