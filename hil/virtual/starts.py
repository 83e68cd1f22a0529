"""How the virtual router is configured before anything of the product is in it.

``as-now``: by hand for the bench, with the agent's access in place, so that a story may begin at once. ``factory``: as
it is sold; the ISP tells its address. ``hand-grown``: what years of somebody's care leave behind.
"""

from __future__ import annotations

from typing import Any, Final

from hil.virtual import addresses as plan
from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.defconf import bridged, defconf
from hil.virtual.routeros.plane import Row
from hil.virtual.routeros.values import Version
from hil.virtual.site import router_configuration

AS_NOW, FACTORY, HAND_GROWN = "as-now", "factory", "hand-grown"
STARTS: Final = (AS_NOW, FACTORY, HAND_GROWN)
# Cameras, in a subnet of their own on a VLAN of the bridge.
VLAN, VLAN_ID, VLAN_ADDRESS, VLAN_PREFIX = "vlan20", 20, "192.168.20.1", "192.168.20.0/24"
OFFICE: Final = "office"


def configuration(start: str, version: Version, profile: Profile) -> dict[str, Any]:
    """What the router boots with."""
    makers = {
        AS_NOW: lambda: router_configuration(profile),
        FACTORY: lambda: defconf(version, profile),
        HAND_GROWN: lambda: hand_grown(version, profile),
    }
    return makers[start]()


def hand_grown(version: Version, profile: Profile) -> dict[str, Any]:
    """A router with a static line, cameras on a VLAN, marks and rules of its owner's for the office, a strict check of
    reverse paths, a port forward, a queue, a tunnel's subnet that is not translated and a server with an address of its
    own; the backup's port is in no bridge and waits for its modem.
    """
    wan, lte = plan.UPLINK_PORTS[profile]
    ports = [port for port in bridged(profile) if port != lte]
    mark = "routing-mark" if version == "6.49" else "routing-table"
    found: dict[str, Any] = {
        "/interface/vlan": [{"name": VLAN, "vlan-id": str(VLAN_ID), "interface": plan.BRIDGE, "comment": "cameras"}],
        "/interface/bridge/port": [{"bridge": plan.BRIDGE, "interface": port} for port in ports],
        "/interface/list": [{"name": "WAN"}, {"name": "LAN"}],
        "/interface/list/member": [
            {"list": "WAN", "interface": wan},
            {"list": "LAN", "interface": plan.BRIDGE},
            {"list": "LAN", "interface": VLAN},
        ],
        "/ip/address": [
            {"address": f"{plan.ROUTER_LAN}/24", "interface": plan.BRIDGE},
            {"address": f"{VLAN_ADDRESS}/24", "interface": VLAN},
            {"address": f"{plan.ROUTER_WAN}/24", "interface": wan, "comment": "static, from the ISP's letter"},
            {"address": f"{plan.ROUTER_WAN_SECOND}/24", "interface": wan, "comment": "the shop's"},
        ],
        **_dhcp_servers(),
        "/ip/dns": {"servers": plan.ISP_DNS, "allow-remote-requests": "yes"},
        "/ip/settings": {"rp-filter": "strict"},
        "/ip/route": [
            {"dst-address": "0.0.0.0/0", "gateway": plan.ISP_GATEWAY},
            {"dst-address": "0.0.0.0/0", "gateway": plan.ISP_GATEWAY, mark: OFFICE},
        ],
        "/ip/firewall/mangle": _marks(),
        "/ip/firewall/filter": _filter(),
        "/ip/firewall/nat": _nat(wan),
        "/queue/simple": [{"name": OFFICE, "target": plan.LAN_PREFIX, "max-limit": "20M/100M"}],
        "/ip/service": [{"name": "telnet", "disabled": "yes"}, {"name": "ftp", "disabled": "yes"}],
        "/system/identity": {"name": "bakery"},
    }
    rule = {"src-address": VLAN_PREFIX, "action": "lookup", "table": OFFICE, "comment": "cameras by the office's way"}
    found["/ip/route/rule" if version == "6.49" else "/routing/rule"] = [rule]
    if version == "7.22":
        found["/routing/table"] = [{"name": OFFICE, "fib": ""}]
    return found


def _nat(wan: str) -> list[Row]:
    return [
        {"chain": "srcnat", "action": "accept", "dst-address": plan.BRANCH_PREFIX, "comment": "the branch, by IPsec"},
        {
            **{"chain": "srcnat", "action": "src-nat", "src-address": plan.PC, "out-interface": wan},
            **{"to-addresses": plan.ROUTER_WAN_SECOND, "comment": "the shop's server has an address of its own"},
        },
        {"chain": "srcnat", "action": "masquerade", "out-interface": wan},
        {
            **{"chain": "dstnat", "action": "dst-nat", "protocol": "tcp", "dst-port": "8080", "in-interface": wan},
            **{"to-addresses": plan.PC, "to-ports": "80", "comment": "the shop's web server"},
        },
    ]


def _dhcp_servers() -> dict[str, list[Row]]:
    nets = (("lan", plan.BRIDGE, plan.ROUTER_LAN), ("cameras", VLAN, VLAN_ADDRESS))
    stems = {name: own.rpartition(".")[0] for name, _port, own in nets}
    return {
        "/ip/pool": [{"name": name, "ranges": f"{stem}.100-{stem}.199"} for name, stem in stems.items()],
        "/ip/dhcp-server": [{"name": name, "interface": port, "address-pool": name} for name, port, _own in nets],
        "/ip/dhcp-server/network": [
            {"address": f"{stems[name]}.0/24", "gateway": own, "dns-server": own} for name, _port, own in nets
        ],
    }


def _marks() -> list[Row]:
    """The office's PC by a table of its own, and a packet mark such as queues use; the queue here has none."""
    marked = {"chain": "prerouting", "connection-mark": OFFICE}
    return [
        {
            **{"chain": "prerouting", "action": "mark-connection", "new-connection-mark": OFFICE, "passthrough": "yes"},
            **{"src-address": plan.PC, "connection-state": "new", "comment": "the office"},
        },
        {
            **{**marked, "action": "mark-routing", "new-routing-mark": OFFICE, "passthrough": "yes"},
            **{"src-address": plan.PC, "dst-address-type": "!local"},
        },
        {**marked, "action": "mark-packet", "new-packet-mark": OFFICE, "passthrough": "no"},
    ]


def _filter() -> list[Row]:
    known = "established,related"
    return [
        {"chain": "input", "action": "accept", "connection-state": known},
        {"chain": "input", "action": "accept", "protocol": "icmp"},
        {"chain": "input", "action": "drop", "in-interface-list": "!LAN", "comment": "nobody from outside"},
        {"chain": "forward", "action": "accept", "connection-state": known},
        {"chain": "forward", "action": "drop", "connection-state": "invalid"},
        {"chain": "forward", "action": "drop", "in-interface": VLAN, "out-interface": plan.BRIDGE},
        {"chain": "forward", "action": "drop", "in-interface-list": "WAN", "connection-nat-state": "!dstnat"},
    ]
