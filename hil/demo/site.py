"""The demo's site: what its router boots with, and the site.toml that the agent reads."""

from __future__ import annotations

import json
from pathlib import Path

from hil.virtual import addresses as plan
from hil.virtual.site import AGENT_USER, router_configuration

PROFILE = "rb2011"
HOST = "127.0.0.1"  # everything of the demo listens here, on ports of its own
SITE, PASSWORDS = "demo", {"router.password": "router-secret-of-the-demo", "mail.password": "mail-secret-of-the-demo"}
CUSTOMER, SUPPORT = "owner@bakery.example", "support@provider.example"
TARGETS = (plan.SBC, *plan.NEUTRAL_TARGETS[:2])  # of the primary
PHONES = tuple(f"192.168.88.{host}" for host in range(11, 17))

TOML = """\
# Made by `python -m hil demo` for this one run. What differs from a real site, for the sake of a short demo:
#   hold_s = 10             a real site waits 30 s before voice goes back to a line that has just returned
#   delay_s = 0             a real site waits 45 s before it writes of a failover, and writes once if it is over by then
#   probe = "router_ping"   the router pings, so nobody needs root or a right to ping; a real agent pings by itself,
#                           ten times a second when in doubt, and notices a dead line in under 3 s instead of in 6
# Router and mail server are programs on this machine.
format = 1

[site]
id = "{site}"
name = "Bakery, Main Street"
timezone = "America/Chicago"

[agent]
address = "{host}"
probe = "router_ping"
alias_prefix = "{alias_prefix}"
state_folder = "{folder}/state"
control_socket = "{folder}/agent.sock"

[router]
address = "{host}"
port = {router_port}
user = "{user}"
password_file = "{folder}/router.password"
certificate = "{folder}/router.crt"
lan_interface = "{bridge}"

[path.primary]
interface = "{wan}"
gateway = "{wan_gateway}"
source = "{wan_source}"
targets = {targets}

[path.lte]
interface = "{lte}"
gateway = "{lte_gateway}"
source = "{lte_source}"
targets = ["{lte_target}"]

[provider]
registrar = "{registrar}"
prefixes = ["{voice}"]

[mail]
server = "{host}"
port = {mail_port}
server_name = "{host}"
user = "{site}"
password_file = "{folder}/mail.password"
ca_file = "{folder}/mail.crt"
sender = "failover@provider.example"
customer = ["{customer}"]
support = ["{support}"]
delay_s = 0

[failback]
hold_s = 10
"""


def write_router_files(folder: Path) -> None:
    """What the router is started with: its owner's configuration and the passwords."""
    for name, secret in PASSWORDS.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(secret)
    configuration = router_configuration(PROFILE)
    user = {"name": AGENT_USER, "group": "edgeagent", "password": PASSWORDS["router.password"], "address": HOST}
    (folder / "initial.json").write_text(json.dumps({**configuration, "/user": [user]}))


def write_site(folder: Path, router_port: int, mail_port: int) -> Path:
    """site.toml; its path."""
    wan, lte = plan.UPLINK_PORTS[PROFILE]
    path = folder / "site.toml"
    path.write_text(
        TOML.format(
            site=SITE,
            host=HOST,
            folder=folder,
            user=AGENT_USER,
            router_port=router_port,
            mail_port=mail_port,
            bridge=plan.BRIDGE,
            alias_prefix=plan.ALIAS_PREFIX,
            wan=wan,
            wan_gateway=plan.ISP_GATEWAY,
            wan_source=plan.ALIAS_PRIMARY,
            targets=json.dumps(TARGETS),
            lte=lte,
            lte_gateway=plan.CARRIER_GATEWAY,
            lte_source=plan.ALIAS_LTE,
            lte_target=plan.NEUTRAL_TARGETS[2],
            registrar=plan.SBC,
            voice=plan.VOICE_PREFIX,
            customer=CUSTOMER,
            support=SUPPORT,
        )
    )
    return path
