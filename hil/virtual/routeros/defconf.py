"""The configuration that a home router has when it leaves the factory: what MikroTik's default script makes.

The script itself differs by board and version and is shown by ``/system default-configuration print``; this is what
exports of freshly reset boards hold, and MikroTik's manual ("Default configurations", "Building Your First Firewall"):
ether1 asks the ISP by DHCP, all other ports are one bridge. Every row has the comment that RouterOS gives it.
"""

from __future__ import annotations

from typing import Any, Final

from hil.virtual.routeros.boards import BOARDS, Profile
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.values import Version

BRIDGE: Final = "bridge"
WAN_PORT: Final = "ether1"
ADDRESS, NETWORK = "192.168.88.1", "192.168.88.0/24"
_SAYS: Final = {"comment": "defconf"}
_KNOWN: Final = "established,related,untracked"
# The addresses that the script's IPv6 firewall knows as bad.
_BAD_IPV6: Final = {
    "::/128": "unspecified address",
    "::1/128": "lo",
    "fec0::/10": "site-local",
    "::ffff:0.0.0.0/96": "ipv4-mapped",
    "::/96": "ipv4 compat",
    "100::/64": "discard only ",
    "2001:db8::/32": "documentation",
    "2001:10::/28": "ORCHID",
    "3ffe::/16": "6bone",
}


def defconf(version: Version, profile: Profile) -> dict[str, Any]:
    """The boot configuration of a board as it is sold."""
    only_lan = {"allowed-interface-list": "LAN"}
    found: dict[str, Any] = {
        "/interface/bridge": [{"name": BRIDGE, "admin-mac": "02:00:5E:00:53:FE", "auto-mac": "no", **_SAYS}],
        "/interface/list": [{"name": "WAN", **_SAYS}, {"name": "LAN", **_SAYS}],
        "/interface/list/member": [
            {"list": "LAN", "interface": BRIDGE, **_SAYS},
            {"list": "WAN", "interface": WAN_PORT, **_SAYS},
        ],
        "/interface/bridge/port": [{"bridge": BRIDGE, "interface": port, **_SAYS} for port in bridged(profile)],
        "/ip/pool": [{"name": "default-dhcp", "ranges": "192.168.88.10-192.168.88.254"}],
        "/ip/dhcp-server": [{"name": "defconf", "interface": BRIDGE, "address-pool": "default-dhcp"}],
        "/ip/dhcp-server/network": [{"address": NETWORK, "gateway": ADDRESS, "dns-server": ADDRESS, **_SAYS}],
        "/ip/address": [{"address": f"{ADDRESS}/24", "interface": BRIDGE, **_SAYS}],
        "/ip/dhcp-client": [{"interface": WAN_PORT, "add-default-route": "yes", **_SAYS}],
        "/ip/dns": {"allow-remote-requests": "yes"},
        "/ip/dns/static": [{"name": "router.lan", "address": ADDRESS, **_SAYS}],
        "/ip/firewall/filter": _filter(version),
        "/ip/firewall/nat": [
            {
                "chain": "srcnat",
                "action": "masquerade",
                "ipsec-policy": "out,none",
                "out-interface-list": "WAN",
                "comment": "defconf: masquerade",
            }
        ],
        "/ip/neighbor/discovery-settings": {"discover-interface-list": "LAN"},
        "/tool/mac-server": only_lan,
        "/tool/mac-server/mac-winbox": only_lan,
    }
    if version == "7.22":  # on 6 the package is off as it is sold
        found["/ipv6/firewall/address-list"] = [
            {"list": "bad_ipv6", "address": address, "comment": f"defconf: {what}"}
            for address, what in _BAD_IPV6.items()
        ]
        found["/ipv6/firewall/filter"] = _filter6()
    return found


def bridged(profile: Profile) -> list[str]:
    """The ports of the bridge: all but the first."""
    board = BOARDS[profile]
    return [port for port in (*board.ethernet, *board.wireless) if port != WAN_PORT]


def _rule(chain: str, action: str, what: str, **match: str) -> Row:
    named = {name.replace("_", "-"): value for name, value in match.items()}
    return {"chain": chain, "action": action, **named, "comment": f"defconf: {what}"}


def _filter(version: Version) -> list[Row]:
    offload = {"hw_offload": "yes"} if version == "7.22" else {}
    accept_known = "accept established,related,untracked"
    new = {"connection_state": "new", "connection_nat_state": "!dstnat", "in_interface_list": "WAN"}
    return [
        _rule("input", "accept", accept_known, connection_state=_KNOWN),
        _rule("input", "drop", "drop invalid", connection_state="invalid"),
        _rule("input", "accept", "accept ICMP", protocol="icmp"),
        _rule("input", "accept", "accept to local loopback (for CAPsMAN)", dst_address="127.0.0.1"),
        _rule("input", "drop", "drop all not coming from LAN", in_interface_list="!LAN"),
        _rule("forward", "accept", "accept in ipsec policy", ipsec_policy="in,ipsec"),
        _rule("forward", "accept", "accept out ipsec policy", ipsec_policy="out,ipsec"),
        _rule("forward", "fasttrack-connection", "fasttrack", connection_state="established,related", **offload),
        _rule("forward", "accept", "accept established,related, untracked", connection_state=_KNOWN),
        _rule("forward", "drop", "drop invalid", connection_state="invalid"),
        _rule("forward", "drop", "drop all from WAN not DSTNATed", **new),
    ]


def _filter6() -> list[Row]:
    from_lan = {"in_interface_list": "!LAN"}
    prefix_delegation = {"protocol": "udp", "dst_port": "546", "src_address": "fe80::/10"}
    return [
        _rule("input", "accept", "accept established,related,untracked", connection_state=_KNOWN),
        _rule("input", "drop", "drop invalid", connection_state="invalid"),
        _rule("input", "accept", "accept ICMPv6", protocol="icmpv6"),
        _rule("input", "accept", "accept UDP traceroute", protocol="udp", dst_port="33434-33534"),
        _rule("input", "accept", "accept DHCPv6-Client prefix delegation.", **prefix_delegation),
        *_ipsec("input"),
        _rule("input", "drop", "drop everything else not coming from LAN", **from_lan),
        _rule("forward", "accept", "accept established,related,untracked", connection_state=_KNOWN),
        _rule("forward", "drop", "drop invalid", connection_state="invalid"),
        _rule("forward", "drop", "drop packets with bad src ipv6", src_address_list="bad_ipv6"),
        _rule("forward", "drop", "drop packets with bad dst ipv6", dst_address_list="bad_ipv6"),
        _rule("forward", "drop", "rfc4890 drop hop-limit=1", protocol="icmpv6", hop_limit="equal:1"),
        _rule("forward", "accept", "accept ICMPv6", protocol="icmpv6"),
        _rule("forward", "accept", "accept HIP", protocol="139"),
        *_ipsec("forward"),
        _rule("forward", "drop", "drop everything else not coming from LAN", **from_lan),
    ]


def _ipsec(chain: str) -> list[Row]:
    return [
        _rule(chain, "accept", "accept IKE", protocol="udp", dst_port="500,4500"),
        _rule(chain, "accept", "accept ipsec AH", protocol="ipsec-ah"),
        _rule(chain, "accept", "accept ipsec ESP", protocol="ipsec-esp"),
        _rule(chain, "accept", "accept all that matches ipsec policy", ipsec_policy="in,ipsec"),
    ]
