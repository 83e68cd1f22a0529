"""What a row of ours is, and what a site wants of its router. The words of the standing rules; no rule stands here."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

TAG = "edgeagent:"
# Address lists. Those of the leases are named after the uplinks (core/settings.py).
VOICE, VOICE6, DEVICES, RESOLVERS = "edge-voip", "edge-voip6", "edge-phones", "edge-dns"
PROBES, AGENT_HOSTS, DRILL = "edge-probe", "edge-agent", "edge-drill"
DNS_MARK = "edge-dns"  # the connection mark of voice devices' name queries
STATIC, DHCP, PPPOE = "static", "dhcp", "pppoe"
# Stands for a next hop that is not known yet. No router has it as a neighbour, so such a route is never in use.
NO_GATEWAY = "169.254.255.254"

Attributes = dict[str, str]


class Uplink(Struct, frozen=True):
    """One path as the router sees it. ``address`` is the router's own there, where it is known and fixed.

    ``kind``: ``static``, ``dhcp`` or ``pppoe``; with the last the interface itself is the ``gateway``. ``modem_page``:
    the router's address, with its length, in the modem's own subnet, where the modem's page is.
    """

    tag: str
    interface: str
    gateway: str
    source: str
    metered: bool
    address: str | None = None
    kind: str = STATIC
    modem_page: str = ""


class Wish(Struct, frozen=True):
    """What the site wants of its router. ``uplinks[0]`` is the primary.

    ``router_pings``: each uplink's ``source`` is an address of the router's own, else one of the agent's.
    ``alias_address`` may be empty where the agent has no alias addresses. ``canaries``: hosts behind the primary that
    the router itself checks; without any there is no native fallback. ``scheduler``: whether the router may run jobs
    by the clock (device-mode of RouterOS 7.17+ can forbid it). ``voice_lans``: subnets of voice devices only; without
    any they are learnt. ``ipv6``: whether the router has IPv6 at all. ``sip_ports``: of the provider's signalling.
    """

    lan_interface: str
    alias_address: str
    alias_prefix: str
    uplinks: tuple[Uplink, ...]
    voice: tuple[str, ...]
    agent_hosts: tuple[str, ...]
    agent: str
    canaries: tuple[str, ...]
    router_pings: bool = False
    scheduler: bool = True
    voice_lans: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    voice6: tuple[str, ...] = ()
    ipv6: bool = False
    sip_ports: tuple[int, ...] = (5060, 5061)
    mail_port: int = 465

    @property
    def signalling(self) -> str:
        """The ports of signalling as RouterOS writes a list of them."""
        return ",".join(map(str, self.sip_ports))


class Row(Struct, frozen=True):
    """One row of ours: the menu, the name that identifies it, its attributes as RouterOS names them."""

    menu: str
    name: str
    attributes: Attributes

    @property
    def comment(self) -> str:
        """The tag by which the row is known again."""
        return TAG + self.name


class Dialect(Protocol):
    """Where the supported versions differ."""

    version: str
    rules: str
    """The menu of the routing rules."""

    def table(self, name: str) -> list[Row]:
        """A routing table, where tables are made explicitly."""

    def default_route(self, table: str, gateway: str) -> Row:
        """The one default of a table of ours."""

    def blackhole(self) -> Row:
        """A last default in main: a table of ours is only looked at while main resolves too."""

    def source_rule(self, name: str, source: str, table: str, *, only: bool) -> Row:
        """Packets from ``source`` go by ``table``; with ``only`` they fail rather than go elsewhere."""


def device_comment(address: str) -> str:
    """The comment of a voice device that was learnt and written down."""
    return f"{TAG}{DEVICES}/{address}"


def table_of(uplink: Uplink) -> str:
    """The routing table, routing mark and connection mark of an uplink."""
    return f"edge-{uplink.tag}"


def media_mark(uplink: Uplink) -> str:
    """The connection mark of media born on a backup."""
    return f"edge-{uplink.tag}-media"


def ping_mark(uplink: Uplink) -> str:
    """The connection mark of a ping that came in by a backup."""
    return f"edge-{uplink.tag}-ping"


def mangle(name: str, **attributes: str) -> Row:
    """A row of /ip/firewall/mangle; attributes with a dash are given as a mapping."""
    return Row("/ip/firewall/mangle", name, attributes)


def nat(name: str, **attributes: str) -> Row:
    """A row of /ip/firewall/nat."""
    return Row("/ip/firewall/nat", name, attributes)


def rule(name: str, **attributes: str) -> Row:
    """A row of /ip/firewall/filter."""
    return Row("/ip/firewall/filter", name, attributes)


def rule6(name: str, **attributes: str) -> Row:
    """A row of /ipv6/firewall/filter."""
    return Row("/ipv6/firewall/filter", name, attributes)
