"""What tests of several folders share."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator

import pytest

from tests.certificates import TestAuthority

# A shell's background job ignores SIGINT, and so would all that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The authority of cluster ``c``."""
    return TestAuthority(tmp_path_factory.mktemp("authority"), "c")


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The authority of cluster ``other``."""
    return TestAuthority(tmp_path_factory.mktemp("other"), "other")


class _Unseen(logging.Handler):
    """What asyncio says of errors that nobody asked for."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "never retrieved" in record.getMessage():
            self.said.append(record.getMessage())


@pytest.fixture(scope="session", autouse=True)
def no_error_is_lost() -> Iterator[None]:
    """A future's exception that no test looked at is a failure, as an unraisable one is."""
    unseen = _Unseen()
    logging.getLogger("asyncio").addHandler(unseen)
    yield
    gc.collect()
    assert not unseen.said, unseen.said


#: Long files first, so that none of them is left for one worker at the end.
_FIRST = ("simulation/test_mutants", "simulation/", "properties/", "e2e/", "integration/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By folder; within one as they were collected."""

    def place(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(_FIRST) if part in item.nodeid), len(_FIRST))

    items.sort(key=place)
