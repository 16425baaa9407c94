"""Which addresses a node's HTTP attempts may reach; asked of what a name resolved to."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where clouds answer who a machine is, and with which rights: link-local, and those of Amazon by
#: IPv6, Alibaba, Oracle and Azure.
_METADATA = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::/32"),
    ipaddress.ip_network("100.100.100.200/32"),
    ipaddress.ip_network("192.0.0.192/32"),
    ipaddress.ip_network("168.63.129.16/32"),
)
#: IPv6 that stands for an IPv4 address in its last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Rules(NamedTuple):
    """What the configuration allows beside public addresses."""

    #: Loopback, private networks and whatever else is not public.
    private: bool = True
    #: Link-local addresses, where clouds keep their machines' credentials.
    metadata: bool = False


def is_allowed(text: str, rules: Rules) -> bool:
    """May an attempt connect to this address?  False for what is none."""
    try:
        address = _meant(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    if any(address in network for network in _METADATA):
        return rules.metadata
    is_public = address.is_global and not address.is_multicast
    return rules.private or is_public


def _meant(address: _Address) -> _Address:
    """The IPv4 address behind one of IPv6 that leads to it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
