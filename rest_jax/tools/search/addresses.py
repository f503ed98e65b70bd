"""Which addresses may be connected to on a model's behalf: public ones (against server-side request forgery).

The check is made on the very address that a socket is about to be connected to: whatever spelled it (decimal, octal, a
name that resolves otherwise the second time, a redirect) has been resolved by then.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_UNICAST = IPv6Network("2000::/3")

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""Where IPv6-only networks show the IPv4 internet (RFC 6052): the last 32 bits are the address meant."""

_RESERVED: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's own services for a machine, at an address that is else public
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is at 192.0.0.192
        "192.88.99.0/24",  # relays to 6to4
        "2001::/23",  # protocol assignments, Teredo among them: tunnels to IPv4 addresses
        "2002::/16",  # 6to4, the same
        "3fff::/20",  # documentation
    )
)
"""What Python's own tables, which differ between versions, take for public."""


class Forbidden(OSError):
    """A connection to an address that is not public."""


def meant_by(text: str) -> Address:
    """The address that a text names; of an IPv4 address that is dressed as IPv6, that one."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether an address belongs to somebody on the internet, and not to this machine, its network or its cloud."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _RESERVED)


def guarded_connector(allowed: Sequence[Network], resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
    """A connector that reaches public addresses, and those in the networks `allowed`.

    For another it raises ClientConnectorError with a Forbidden as its os_error. resolver: None is the system's own.
    """

    def checked_socket(info: Any) -> socket.socket:
        family, kind, protocol, _, place = info
        address = meant_by(place[0])
        if not (is_public(address) or any(address in network for network in allowed)):
            raise Forbidden("it leads to an address that is not public")
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(limit=0, socket_factory=checked_socket, resolver=resolver)
