"""Which addresses may be fetched: public ones, and those that the user allows by name."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Any

from ...errors import ParameterError
from .answer import FetchError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Address = tuple[socket.AddressFamily, Any]
"""A family and a socket address, as :meth:`socket.socket.connect` takes it."""

_HOST = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
# Not globally routable by IANA's registries, and not said so by the `ipaddress` of every Python from 3.11 on.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15",
        "2001::/23", "2001:db8::/32", "3fff::/20", "fec0::/10",
    )
)  # fmt: skip
_KINDS = ("unspecified", "loopback", "link_local", "multicast", "reserved")

# "Bad ports" of the Fetch standard: services that take an HTTP request for commands of their own.
_BAD_PORTS = frozenset(
    (
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
        110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530,
        531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
        5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    )
)  # fmt: skip


class AddressGuard:
    """Refuses addresses that are not public, so that no page, redirect or name server can make us ask the inside of
    the user's network.

    A host is allowed as it is written in the address: allowing ``10.0.0.5`` does not allow names that lead there.

    Args:
        allowed_hosts (()): hosts that may be fetched although their addresses are not public, each ``"HOST"`` or
            ``"HOST:PORT"``, e.g. ``"images.intranet"``, ``"127.0.0.1:8000"``, ``"[::1]"``

    Raises:
        ParameterError: an entry is neither
    """

    def __init__(self, allowed_hosts: Sequence[str] = ()):
        self.allowed_hosts = tuple(allowed_hosts)
        self._allowed = frozenset(_allowed(entry) for entry in self.allowed_hosts)

    def allows(self, host: str, port: int) -> bool:
        """Whether the user allows this host, whatever its addresses are."""
        host = _canonical(host)
        return (host, None) in self._allowed or (host, port) in self._allowed

    def check_url(self, url: str) -> None:
        """Refuses what can be refused without asking a name server.

        Args:
            url: the address

        Raises:
            FetchError: ``"bad_url"``: it is no http(s) address, or has a user name, no host or an unusable port;
                ``"private_address"``: its host is an address, in any notation, that is not public
        """
        _, host, port = split_url(url)
        if self.allows(host, port):
            return
        if port in _BAD_PORTS:
            raise FetchError("bad_url", f"port {port} of {host} belongs to another service than the web")
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
            raise _private(host, port, "loopback")
        for address in literal_addresses(host):
            if kind := not_public(address):
                raise _private(host, port, kind)

    def addresses(self, host: str, port: int) -> list[Address]:
        """Resolves a host and keeps the addresses that may be connected to.

        Of a host with public and private addresses only the public ones are returned: whoever connects to exactly
        these is safe from name servers that answer differently the next time (DNS rebinding).

        Args:
            host: a name or an IP address
            port: the port

        Returns:
            ``(family, socket address)`` pairs in the resolver's order, at least one

        Raises:
            FetchError: ``"private_address"``: none of its addresses is public; ``"dns"``: there is no such name;
                ``"no_network"``: no name server answers
        """
        found = resolve(host, port)
        if self.allows(host, port):
            return found
        public = [(family, address) for family, address in found if not _kind(address)]
        if not public:
            raise _private(host, port, _kind(found[0][1]), found[0][1][0])
        return public

    def check_behind_proxy(self, host: str, port: int) -> None:
        """Refuses a host of which any address known here is not public.

        A proxy resolves names itself and takes whichever address it likes, so one private address is enough. A name
        that is not known here is left to the proxy.

        Args:
            host: a name or an IP address
            port: the port

        Raises:
            FetchError: ``"private_address"``
        """
        if self.allows(host, port):
            return
        try:
            found = resolve(host, port)
        except FetchError:
            return
        for _, address in found:
            if kind := _kind(address):
                raise _private(host, port, kind, address[0])


def split_url(url: str) -> tuple[str, str, int]:
    """Takes an address apart, as urllib3 will when it is opened.

    Args:
        url: an http or https address

    Returns:
        its scheme, its host (lower case, IDNA, without brackets and final dot) and its port

    Raises:
        FetchError: ``"bad_url"``
    """
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    shown = re.sub(r"//[^/?#]*@", "//", url[:200])
    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise FetchError("bad_url", f"{shown!r} is no address") from None
    if parsed.scheme not in _DEFAULT_PORTS or "://" not in url:
        raise FetchError("bad_url", f"{shown!r}: only http and https addresses are fetched")
    if parsed.auth is not None:
        raise FetchError("bad_url", f"{shown!r} has a user name or password in it: such addresses are not fetched")
    if not parsed.host:
        raise FetchError("bad_url", f"{shown!r} names no host")
    port = _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not 0 < port <= 65535:
        raise FetchError("bad_url", f"{shown!r}: a port is a number from 1 to 65535")
    host = _canonical(parsed.host)
    if ":" not in host and not _HOST.fullmatch(host):
        raise FetchError("bad_url", f"{shown!r} names no host that can exist")
    return parsed.scheme, host, port


def resolve(host: str, port: int) -> list[Address]:
    """Asks the system for the addresses of a host, IPv6 only where this machine has it.

    Raises:
        FetchError: ``"dns"``: there is no such name; ``"no_network"``: no name server answers
    """
    from urllib3.util.connection import allowed_gai_family

    try:
        found = socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
    except UnicodeError:
        raise FetchError("bad_url", f"{host!r} is no host name") from None
    except socket.gaierror as error:
        if error.errno in (socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY):
            detail = f"no name server answers for {host} ({error.strerror}): check the network, then try again"
            raise FetchError("no_network", detail) from error
        raise FetchError("dns", f"there is no host {host} ({error.strerror})") from error
    return [(family, address) for family, _, _, _, address in found]


def literal_addresses(host: str) -> list[IPAddress]:
    """The IP addresses that a host can be read as: none for a name, two where readers differ (octal ``010.0.0.1``).

    Besides the usual notations these are the ones of ``inet_aton(3)``, which resolvers take: ``2130706433``,
    ``0x7f.1``, ``017700000001``.
    """
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        found: list[IPAddress] = [ipaddress.IPv4Address(socket.inet_aton(host))]
    except (OSError, UnicodeError):
        return []
    parts = host.split(".")
    if len(parts) == 4 and all(part.isdecimal() and int(part) < 256 for part in parts):
        found.append(ipaddress.IPv4Address(".".join(str(int(part)) for part in parts)))
    return found


def not_public(address: IPAddress) -> str:
    """Says in a word why an address is not public, e.g. ``"loopback"``; empty if it is.

    IPv6 addresses that carry an IPv4 address (mapped, NAT64, 6to4) are as public as that is.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return not_public(inner)
    for kind in _KINDS:
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    if not address.is_global or any(address in network for network in _NOT_PUBLIC):
        return "private"
    return ""


def _kind(address: Any) -> str:
    return not_public(ipaddress.ip_address(address[0]))


def _canonical(host: str) -> str:
    host = host.strip("[]").rstrip(".").lower()
    literal = literal_addresses(host)
    return str(literal[0]) if len(literal) == 1 else host


def _private(host: str, port: int, kind: str, address: str = "") -> FetchError:
    leads = f"{host} leads to {address}, which" if address and address != host else host
    name = f"[{host}]" if ":" in host else host
    detail = f"{leads} is not a public address ({kind}); allowed_hosts=['{name}:{port}'] permits it"
    return FetchError("private_address", detail)


def _allowed(entry: str) -> tuple[str, int | None]:
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    problem = "must be HOST or HOST:PORT, e.g. 'images.intranet', '127.0.0.1:8000' or '[::1]'"
    text = entry.strip() if isinstance(entry, str) else ""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    try:
        parsed = parse_url(f"http://{text}")
    except LocationParseError:
        raise ParameterError("allowed_hosts", entry, problem) from None
    host = _canonical(parsed.host or "")
    rest = parsed.auth or parsed.path or parsed.query is not None or parsed.fragment is not None
    if rest or parsed.port == 0 or not (":" in host or _HOST.fullmatch(host)):
        raise ParameterError("allowed_hosts", entry, problem)
    return host, parsed.port
