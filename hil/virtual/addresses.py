"""The address plan of one virtual site. Documentation prefixes (RFC 5737), private ones inside the site (RFC 1918).

Every bed uses the same addresses: each lives in namespaces of its own, with no link outward.
"""

from __future__ import annotations

from typing import Final

# The site's LAN, behind the router's bridge.
LAN_PREFIX: Final = "192.168.88.0/24"
ROUTER_LAN: Final = "192.168.88.1"
PI: Final = "192.168.88.2"
PHONES: Final = tuple(f"192.168.88.{host}" for host in range(11, 17))
PC: Final = "192.168.88.50"

# The agent's own small subnet on the same bridge: one alias address for each path.
ALIAS_PREFIX: Final = "10.88.77.0/29"
ROUTER_ALIAS: Final = "10.88.77.1"
ALIAS_PRIMARY: Final = "10.88.77.2"
ALIAS_LTE: Final = "10.88.77.3"

# The two uplinks. The far ends drop packets whose source is not from these prefixes, as real carriers do.
WAN_PREFIX: Final = "192.0.2.0/24"
ROUTER_WAN: Final = "192.0.2.2"
ISP_GATEWAY: Final = "192.0.2.1"
ROUTER_WAN_SECOND: Final = "192.0.2.3"  # where a router's owner has another one for a server of his
LTE_PREFIX: Final = "198.51.100.0/24"
ROUTER_LTE: Final = "198.51.100.2"
CARRIER_GATEWAY: Final = "198.51.100.1"

# IPv6 (RFC 3849), where a story wants it: the site's LAN, and the link to the LTE carrier.
LAN_V6: Final = "2001:db8:88::1/64"
ROUTER_LTE_V6: Final = "2001:db8:1::2"
CARRIER_GATEWAY_V6: Final = "2001:db8:1::1"

# The hosted-VoIP provider. Only the first prefix carries voice; mail and names are provider hosts but not voice.
VOICE_PREFIX: Final = "203.0.113.0/27"
SBC: Final = "203.0.113.10"
FAR_END: Final = "203.0.113.20"
MAIL_SERVER: Final = "203.0.113.40"
PROVIDER_DNS: Final = "203.0.113.53"
PROVIDER_GATEWAY: Final = "203.0.113.62"
PROVIDER_PREFIX: Final = "203.0.113.0/26"

# The neutral internet: three hosts that answer pings and have nothing to do with the provider.
NEUTRAL_PREFIX: Final = "203.0.113.128/26"
NEUTRAL_GATEWAY: Final = "203.0.113.190"
NEUTRAL_TARGETS: Final = ("203.0.113.129", "203.0.113.130", "203.0.113.131")
ISP_DNS: Final = "192.0.2.53"
# Hosts of the internet that nobody probes: what people use it for, and a resolver for everybody.
WEB_HOST: Final = "203.0.113.140"
PUBLIC_DNS: Final = "203.0.113.141"
# Behind a tunnel of the router's owner; packets for it leave by the primary as they are, and nobody there knows it.
BRANCH_PREFIX: Final = "10.20.0.0/24"
BRANCH_HOST: Final = "10.20.0.5"

SIP_PORT: Final = 5060
SIPS_PORT: Final = 5061
RELAY_PORTS: Final = (30000, 30999)
# A port beyond the relay's own where the provider takes media all the same, as providers may do without notice.
ODD_MEDIA_PORT: Final = 49171
PHONE_RTP_PORTS: Final = (10000, 10100)

# Which port of each router model the two uplinks sit on (demand C6), by bench profile.
UPLINK_PORTS: Final = {
    "rb2011": ("ether1", "ether10"),
    "hap-ac2": ("ether1", "ether5"),
    "generic": ("ether1", "ether2"),
}
BRIDGE: Final = "bridge"
