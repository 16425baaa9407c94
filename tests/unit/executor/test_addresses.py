"""What the address rules let through."""

from __future__ import annotations

import pytest

from raftsched.executor.addresses import Rules, is_allowed

PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "0.0.0.0", "100.64.0.1", "::1", "::",
    "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
    "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0",
    "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "100.100.100.200", "192.0.0.192", "168.63.129.16",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_always_allowed(address: str) -> None:
    assert is_allowed(address, Rules(private=False, metadata=False))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_allowed_if_the_rules_say_so(address: str) -> None:
    assert is_allowed(address, Rules(private=True, metadata=False))
    assert not is_allowed(address, Rules(private=False, metadata=True))


@pytest.mark.parametrize("address", METADATA)
def test_metadata_addresses_are_a_rule_of_their_own(address: str) -> None:
    assert not is_allowed(address, Rules(private=True, metadata=False))
    assert is_allowed(address, Rules(private=False, metadata=True))


@pytest.mark.parametrize("address", ["", "127.1", "2130706433", "0x7f.0.0.1", "localhost", "1.2.3"])
def test_what_is_no_address_is_not_allowed(address: str) -> None:
    assert not is_allowed(address, Rules(private=True, metadata=True))


def test_by_default_only_metadata_is_out_of_reach() -> None:
    assert Rules() == Rules(private=True, metadata=False)
