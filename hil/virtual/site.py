"""Configuration of the virtual site: the router as its owner has it, and the agent's site.toml.

The router boots with what the factory configures (fasttrack, masquerade out of the WAN list, a firewall), its uplinks
with fixed addresses. Nothing of the product is in it; that comes by ``edgeagent provision``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hil.virtual import addresses as plan

AGENT_USER = "edgeagent"
AGENT_PASSWORD = "agent-password-of-the-bench"  # noqa: S105  (the router lives in a namespace of the bench only)
MAIL_LOGIN, MAIL_PASSWORD = "site-000123", "bench-secret"
CUSTOMER, SUPPORT = "customer@provider.example", "support@provider.example"


def router_configuration(profile: str) -> dict[str, Any]:
    """The boot configuration of a router whose owner has both uplinks in place."""
    wan, lte = plan.UPLINK_PORTS[profile]
    known = "established,related"
    return {
        "/interface/list": [{"name": "WAN"}, {"name": "LAN"}],
        "/interface/list/member": [{"list": "WAN", "interface": wan}, {"list": "LAN", "interface": plan.BRIDGE}],
        "/ip/address": [
            {"address": f"{plan.ROUTER_LAN}/24", "interface": plan.BRIDGE},
            {"address": f"{plan.ROUTER_WAN}/24", "interface": wan},
            {"address": f"{plan.ROUTER_LTE}/24", "interface": lte},
        ],
        "/ip/route": [{"dst-address": "0.0.0.0/0", "gateway": plan.ISP_GATEWAY}],
        "/ip/firewall/filter": [
            {"chain": "input", "action": "accept", "connection-state": known},
            {"chain": "input", "action": "accept", "protocol": "icmp"},
            {"chain": "input", "action": "drop", "in-interface-list": "!LAN"},
            {"chain": "forward", "action": "fasttrack-connection", "connection-state": known},
            {"chain": "forward", "action": "accept", "connection-state": known},
            {"chain": "forward", "action": "drop", "connection-state": "invalid"},
        ],
        "/ip/firewall/nat": [{"chain": "srcnat", "action": "masquerade", "out-interface-list": "WAN"}],
        "/user/group": [{"name": "edgeagent", "policy": "api,read,write,test"}],
        "/user": [{"name": AGENT_USER, "group": "edgeagent", "password": AGENT_PASSWORD, "address": plan.PI}],
    }


def write_agent_site(
    folder: Path,
    profile: str,
    certificate: Path,
    mail_ca: Path,
    hold_s: float,
    control_socket: Path,
    start: str,
    resolvers: Sequence[str] = (),
) -> Path:
    """Write site.toml and the files it names into ``folder``; returns its path. Socket paths must be short.

    ``start``: see ``bench.Options``. Where the router knows nothing of the agent, the bootstrap makes its password.
    ``resolvers``: whom voice devices may ask while they are on LTE; without any the file says nothing of it.
    """
    wan, lte = plan.UPLINK_PORTS[profile]
    provided = start == "as-now"
    told = 'kind = "dhcp"'
    primary = [told if start == "factory" else f'gateway = "{plan.ISP_GATEWAY}"']
    backup = [f'gateway = "{plan.CARRIER_GATEWAY}"' if provided else told]
    known_model = not provided and profile != "generic"  # then its ports are, too
    if not known_model:
        primary.append(f'interface = "{wan}"')
        backup.append(f'interface = "{lte}"')
    newline = "\n"
    folder.mkdir(parents=True, exist_ok=True)
    known = {"router.password": AGENT_PASSWORD} if provided else {}
    for name, secret in {**known, "mail.password": MAIL_PASSWORD}.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(secret)
    names = f"\n[voice]\nresolvers = {list(resolvers)!r}\n" if resolvers else ""
    targets = [plan.SBC, *plan.NEUTRAL_TARGETS[:2]]
    text = f"""format = 1

[site]
id = "{MAIL_LOGIN}"
name = "The virtual site"
timezone = "America/Chicago"

[agent]
address = "{plan.PI}"
alias_prefix = "{plan.ALIAS_PREFIX}"
state_folder = "{folder / "state"}"
control_socket = "{control_socket}"

[router]
address = "{plan.ROUTER_LAN}"
user = "{AGENT_USER}"
password_file = "{folder / "router.password"}"
certificate = "{certificate}"
lan_interface = "{plan.BRIDGE}"
alias_address = "{plan.ROUTER_ALIAS}"
profile = "{profile if known_model else "generic"}"

[path.primary]
{newline.join(primary)}
source = "{plan.ALIAS_PRIMARY}"
targets = {targets!r}

[path.lte]
{newline.join(backup)}
source = "{plan.ALIAS_LTE}"
targets = ["{plan.NEUTRAL_TARGETS[2]}"]

[provider]
registrar = "{plan.SBC}"
prefixes = ["{plan.VOICE_PREFIX}"]

[mail]
server = "{plan.MAIL_SERVER}"
port = 465
security = "tls"
server_name = "mail.provider.example"
user = "{MAIL_LOGIN}"
password_file = "{folder / "mail.password"}"
ca_file = "{mail_ca}"
sender = "failover@provider.example"
customer = ["{CUSTOMER}"]
support = ["{SUPPORT}"]

[failback]
hold_s = {hold_s}
{names}"""
    path = folder / "site.toml"
    path.write_text(text.replace("'", '"'))
    return path
