"""Attempts to get something other than voice across LTE: what is sent, by whom, and why it is worth a try.

Data only. ``leaks_packets`` builds the packets, ``leaks_send`` sends them inside the site's namespaces, and
``leaks_judge`` looks for their markers on the LTE link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hil.virtual import addresses as plan

Sender = Literal["pc", "ph2", "pi", "rtr"]
"""The role whose namespace sends: a PC, a phone's host without a phone, the agent's machine, the router itself."""

WEB: Final = plan.WEB_HOST
RESOLVER: Final = plan.PUBLIC_DNS
WEB6: Final = "2001:db8:ff::1"
GROUP: Final = "239.1.2.3"
SSDP: Final = "239.255.255.250"
FLOW_PORT, SINK_PORT = 8443, 8444  # of WEB: what it gets comes back; it is only taken
PHONE: Final = plan.PHONES[1]  # of the phone's host that sends
CARRIER_BROADCAST: Final = "198.51.100.255"


@dataclass(frozen=True)
class Attempt:
    """One way out. ``how``: the name of a builder or of a kind of flow; ``where``: what it is given.

    ``preventable``: whether a router can tell it from what must pass. What it cannot is measured and named, and is no
    leak of the rules. ``ipv6``: it needs a router that speaks IPv6.
    """

    name: str
    sender: Sender
    how: str
    where: Mapping[str, Any] = field(default_factory=dict, hash=False)
    why: str = ""
    preventable: bool = True

    @property
    def ipv6(self) -> bool:
        """Whether it needs IPv6 at the site."""
        return self.how.endswith("6")


def _of(sender: Sender, *rows: tuple[str, str, dict[str, Any], str]) -> tuple[Attempt, ...]:
    return tuple(Attempt(name, sender, how, where, why) for name, how, where, why in rows)


_PC = _of(
    "pc",
    ("http", "tcp", {"to": WEB, "port": 80}, "the web"),
    ("https", "tcp", {"to": WEB, "port": 443}, "the web"),
    ("quic", "udp", {"to": WEB, "port": 443}, "the web without TCP"),
    ("dns-own", "dns", {"to": WEB}, "a resolver of the attacker's own"),
    ("dns-own-tcp", "tcp", {"to": WEB, "port": 53}, "the same over TCP"),
    ("dns-allowed", "dns", {"to": plan.PROVIDER_DNS}, "the resolver that voice devices may ask, from a PC"),
    ("dns-allowed-tcp", "tcp", {"to": plan.PROVIDER_DNS, "port": 53}, "the same over TCP"),
    ("dns-tunnel-router", "dns", {"to": plan.ROUTER_LAN, "kind": 16}, "a tunnel through the router's own cache"),
    ("dns-tunnel-allowed", "dns", {"to": plan.PROVIDER_DNS, "kind": 16, "fill": 3}, "a tunnel through that resolver"),
    ("dns-over-tls", "tcp", {"to": RESOLVER, "port": 853}, "names that nobody can read"),
    ("dns-over-https-allowed", "tcp", {"to": plan.PROVIDER_DNS, "port": 443}, "the allowed resolver by another port"),
    ("icmp-tunnel", "icmp", {"to": WEB}, "data in echo requests"),
    ("icmp-tunnel-provider", "icmp", {"to": plan.SBC}, "the same to a voice server"),
    ("ntp", "udp", {"to": WEB, "port": 123}, "a clock"),
    ("rtp-elsewhere", "udp", {"to": WEB, "port": plan.RELAY_PORTS[0], "start": b"\x80\x00"}, "looks like media"),
    ("sip-elsewhere", "udp", {"to": WEB, "port": plan.SIP_PORT, "start": b"REGISTER sip:x SIP/2.0\r\n"}, "like SIP"),
    ("sip-elsewhere-tcp", "tcp", {"to": WEB, "port": plan.SIP_PORT}, "the same over TCP"),
    ("http-on-sip-port", "tcp", {"to": plan.SBC, "port": plan.SIP_PORT}, "HTTP on 5060 to the provider"),
    ("tls-on-sips-port", "tcp", {"to": plan.SBC, "port": plan.SIPS_PORT}, "any TLS on 5061 to the provider"),
    ("provider-udp", "udp", {"to": plan.SBC, "port": 4433}, "any port of the provider"),
    ("provider-tcp", "tcp", {"to": plan.SBC, "port": 8080}, "any port of the provider"),
    ("smtp", "tcp", {"to": plan.MAIL_SERVER, "port": 25}, "mail of a PC, or of what has infected it"),
    ("submission", "tcp", {"to": plan.MAIL_SERVER, "port": 587}, "the agent's mail server, from a PC"),
    ("submissions", "tcp", {"to": plan.MAIL_SERVER, "port": 465}, "the agent's mail server and port, from a PC"),
    ("wireguard", "udp", {"to": WEB, "port": 51820, "start": b"\x01\0\0\0"}, "a tunnel"),
    ("ike", "udp", {"to": WEB, "port": 500}, "a tunnel's key exchange"),
    ("ike-nat", "udp", {"to": WEB, "port": 4500}, "the same behind NAT"),
    ("esp", "ip", {"to": WEB, "protocol": 50}, "IPsec without UDP"),
    ("gre", "ip", {"to": WEB, "protocol": 47, "start": b"\0\0\x88\xbe"}, "a tunnel"),
    ("ipip", "ip", {"to": WEB, "protocol": 4}, "IPv4 in IPv4"),
    ("6to4", "ip", {"to": WEB, "protocol": 41, "start": b"\x60"}, "IPv6 in IPv4"),
    ("teredo", "udp", {"to": WEB, "port": 3544}, "IPv6 in UDP"),
    ("l2tp", "udp", {"to": WEB, "port": 1701}, "a tunnel"),
    ("sctp", "sctp", {"to": WEB, "port": 5060}, "a transport that few rules know"),
    ("fragments", "fragments", {"to": WEB, "port": 5061}, "later fragments carry no ports"),
    ("fragments-provider", "fragments", {"to": plan.SBC, "port": 4433}, "the same to the provider"),
    ("options", "options", {"to": WEB, "port": 33001}, "IP options make slow paths"),
    ("traceroute", "udp", {"to": WEB, "port": 33434, "ttl": 3}, "dies one hop behind the carrier"),
    ("multicast", "udp", {"to": GROUP, "port": 5004, "ttl": 8}, "through an IGMP proxy of the owner"),
    ("ssdp", "udp", {"to": SSDP, "port": 1900, "ttl": 8}, "the same, with a group that all systems use"),
    ("broadcast", "udp", {"to": CARRIER_BROADCAST, "port": 137}, "all hosts of the carrier's subnet"),
    ("carrier-http", "tcp", {"to": plan.CARRIER_GATEWAY, "port": 80}, "beside LTE: reached without any default"),
    ("carrier-udp", "udp", {"to": plan.CARRIER_GATEWAY, "port": 4433}, "the same"),
    ("carrier-ping", "icmp", {"to": plan.CARRIER_GATEWAY}, "the same"),
    ("router-by-lte-ping", "icmp", {"to": plan.ROUTER_LTE}, "the router's own address there: its answer bears it"),
    ("router-by-lte-udp", "udp", {"to": plan.ROUTER_LTE, "port": 4433}, "the same: its refusal quotes what it refuses"),
    ("as-phone", "udp", {"to": WEB, "port": 4433, "source": PHONE}, "a phone's address to no provider"),
    ("as-agent", "udp", {"to": WEB, "port": 4433, "source": plan.ALIAS_LTE}, "the agent's address for LTE, elsewhere"),
    ("as-agent-tcp", "tcp", {"to": WEB, "port": 443, "source": plan.ALIAS_LTE}, "the same over TCP"),
    ("as-agent-provider", "udp", {"to": plan.SBC, "port": 4433, "source": plan.ALIAS_LTE}, "the same to the provider"),
    ("ipv6-udp", "udp6", {"to": WEB6, "port": 443}, "the default that the router announces"),
    ("ipv6-tcp", "tcp6", {"to": WEB6, "port": 443}, "the same over TCP"),
    ("ipv6-ping", "icmp6", {"to": WEB6}, "the same in echo requests"),
    ("tcp-carried", "flow", {"transport": "tcp"}, "born on the primary, goes on after the switch"),
    ("udp-carried", "flow", {"transport": "udp"}, "the same over UDP"),
    ("udp-carried-unanswered", "flow", {"transport": "udp", "port": SINK_PORT}, "the same, and nobody ever answered"),
    ("tcp-fasttracked", "flow", {"transport": "tcp", "fast": True}, "its packets skip the rules"),
    ("udp-fasttracked", "flow", {"transport": "udp", "fast": True}, "the same over UDP"),
)  # fmt: skip
_OTHERS = (
    *_of(
        "ph2",
        ("phone-https", "tcp", {"to": WEB, "port": 443}, "a phone fetches its firmware"),
        ("phone-ntp", "udp", {"to": WEB, "port": 123}, "a phone sets its clock"),
        ("phone-icmp", "icmp", {"to": WEB}, "a phone is a computer"),
        ("phone-rtp", "udp", {"to": WEB, "port": plan.RELAY_PORTS[0], "start": b"\x80\x00"}, "media"),
    ),
    *_of(
        "pi",
        ("agent-host-https", "tcp", {"to": WEB, "port": 443}, "updates of the agent's machine"),
        ("agent-host-ntp", "udp", {"to": WEB, "port": 123}, "its clock"),
        ("agent-host-mail", "tcp", {"to": plan.MAIL_SERVER, "port": 465}, "its mail, not from the agent's address"),
    ),
    *_of(
        "rtr",
        ("router-dns", "dns", {"to": RESOLVER}, "the router's own lookups"),
        ("router-update", "tcp", {"to": WEB, "port": 80, "source": plan.ROUTER_LTE}, "its update check"),
        ("router-cloud", "udp", {"to": WEB, "port": 15252}, "its cloud service"),
        ("router-ntp", "udp", {"to": WEB, "port": 123}, "its clock"),
        ("router-icmp", "icmp", {"to": WEB}, "pings that somebody left running"),
        ("router-neighbours", "port", {"to": "255.255.255.255", "port": 5678}, "discovery by MNDP"),
        ("router-mdns", "port", {"to": "224.0.0.251", "port": 5353}, "names of the LAN, repeated"),
        ("router-dhcpv6", "port6", {"to": "ff02::1:2", "port": 547}, "a prefix wanted from the carrier"),
    ),
)  # fmt: skip
# What no router can tell from what must pass.
_UNPREVENTABLE = (
    Attempt(
        "as-phone-provider", "pc", "udp", {"to": plan.SBC, "port": plan.RELAY_PORTS[1] - 1, "source": PHONE},
        "with a phone's address, to the provider, it is that phone", preventable=False,
    ),
    Attempt(
        "as-agent-ping", "pc", "icmp", {"to": plan.NEUTRAL_TARGETS[2], "source": plan.ALIAS_LTE},
        "with the agent's address, to its target, it is the agent", preventable=False,
    ),
    Attempt(
        "newcomer-sip", "pc", "udp", {"to": plan.SBC, "port": plan.SIP_PORT, "start": b"\r\n"},
        "SIP from any host may be a new phone's, where no voice LAN is named", preventable=False,
    ),
    Attempt(
        "phone-dns-tunnel", "ph2", "dns", {"to": plan.PROVIDER_DNS},
        "a name that a phone asks for may carry anything", preventable=False,
    ),
)  # fmt: skip
ATTEMPTS: Final = (*_PC, *_OTHERS, *_UNPREVENTABLE)

LABELS: Final = (
    *("primary", "primary-led", "failover", "lte", "lte-led", "failback", "dead", "dead-led"),
    *("booted-dead", "booted-dead-led", "booted", "booted-led", "control"),
)
"""The situations. ``-led``: the owner's own default leads through LTE, so only rules stand in the way."""


class Markers:
    """The bytes by which an attempt in a situation is known wherever they turn up: letters and digits, as in a name."""

    def __init__(self, secret: str) -> None:
        if not re.fullmatch(r"[0-9a-f]{6}", secret):
            raise ValueError(f"the secret of a run is six hexadecimal digits, not {secret!r}")
        self.secret = secret
        self.pattern = re.compile(f"zq{secret}([0-9a-f])([0-9a-f]{{2}})".encode())

    def of(self, attempt: Attempt, label: str) -> str:
        """Eleven characters."""
        return f"zq{self.secret}{LABELS.index(label):x}{ATTEMPTS.index(attempt):02x}"

    def found(self, data: bytes) -> set[tuple[Attempt, str]]:
        """The attempts whose markers are in these bytes, however a resolver may have changed their case."""
        found = set()
        for match in self.pattern.finditer(data.lower()):
            label, attempt = int(match[1], 16), int(match[2], 16)
            if label < len(LABELS) and attempt < len(ATTEMPTS):
                found.add((ATTEMPTS[attempt], LABELS[label]))
        return found


def named(names: Iterable[str]) -> list[Attempt]:
    """The attempts of these names, in their order here."""
    wanted = set(names)
    return [attempt for attempt in ATTEMPTS if attempt.name in wanted]
