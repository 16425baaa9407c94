"""What planted bugs are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any


@contextmanager
def together(*managers: AbstractContextManager[Any]) -> Iterator[None]:
    """All of them at once."""
    with ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager)
        yield
