"""A running server for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.api.harness import Api, serving


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving() as running:
        yield running
