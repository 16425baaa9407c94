"""A running server for each test, and one with a node for those that run tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.api.harness import Api, serving


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving() as running:
        yield running


@pytest.fixture
async def one(api: Api) -> Api:
    """An API with a node."""
    api.service.add_node("n1")
    return api
