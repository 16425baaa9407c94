"""What tests of several folders share."""

from __future__ import annotations

import pytest

from tests.certificates import TestAuthority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The authority of cluster ``c``."""
    return TestAuthority(tmp_path_factory.mktemp("authority"), "c")


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The authority of cluster ``other``."""
    return TestAuthority(tmp_path_factory.mktemp("other"), "other")
