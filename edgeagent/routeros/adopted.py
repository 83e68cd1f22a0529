"""The closed list of the owner's settings that we change, and why. Former values are saved first and given back.

Everything else of the owner's stays as it is, to the byte (clause P4).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from msgspec import Struct

from edgeagent.routeros import scripts
from edgeagent.routeros.diff import Set
from edgeagent.routeros.rows import DHCP, Dialect, Uplink, Wish
from edgeagent.routeros.ruleset import BACKUPS
from edgeagent.routeros.values import same

KEPT = "adopted settings"  # the name in the store under which the former values stand, by key


class Setting(Struct, frozen=True):
    """One adopted value: ``attribute`` of the rows of ``menu`` whose ``by`` is ``row`` (None: a single record).

    ``beside``: the value is a script that is put after the owner's own. ``only``: what it is put in place of.
    ``early``: it has to be so before our rows can stand, and is given back after them.
    """

    menu: str
    row: str | None
    attribute: str
    value: str
    by: str = "name"
    beside: bool = False
    only: tuple[str, ...] | None = None
    early: bool = False

    @property
    def key(self) -> str:
        """Under which the former value is kept."""
        return f"{self.menu}[{self.row or ''}].{self.attribute}"

    def wanted(self, found: str) -> str:
        """What the value has to be, given the one that is there."""
        if self.beside:
            return scripts.beside(found, self.value)
        return self.value if self.only is None or found in self.only else found


Found = Mapping[Setting, tuple[str, str]]  # the id of the row, and the value there

# Shorter timers make a phone without keep-alive uncallable between two registrations, and lose the far end's BYE.
# The SIP helper rewrites signalling in ways hosted providers ask to be spared.
EVERYWHERE = (
    Setting("/ip/firewall/connection/tracking", None, "udp-timeout", "3m"),
    Setting("/ip/firewall/connection/tracking", None, "udp-stream-timeout", "3m"),
    Setting("/ip/firewall/service-port", "sip", "disabled", "yes"),
)
# The built-in lists that hold every port (MikroTik manual, "Interface Lists").
EVERY_PORT = ("all", "static", "!dynamic")
# Set by the bootstrap, to values of the site, and given back with the access itself: nobody of ours gets in then.
ACCESS = tuple(Setting("/ip/service", "api-ssl", attribute, "") for attribute in ("address", "certificate", "disabled"))


def of_access(former: Mapping[str, str]) -> dict[str, str]:
    """Those of the saved values that belong to the access."""
    return {setting.key: former[setting.key] for setting in ACCESS if setting.key in former}


def settings(wish: Wish, dialect: Dialect, *, poe: Collection[str]) -> tuple[Setting, ...]:
    """The settings adopted at this site. ``poe``: the ports out of which the board can send power."""
    found = list(EVERYWHERE)
    for uplink in wish.uplinks[1:]:
        found += _port(uplink, poe=uplink.interface in poe)
    # Discovery tells neighbours what we are; on a backup it is nobody's business and costs data.
    menu = "/ip/neighbor/discovery-settings"
    found.append(Setting(menu, None, "discover-interface-list", f"!{BACKUPS}", only=EVERY_PORT))
    primary = wish.uplinks[0]
    if primary.kind == DHCP:
        script = scripts.lease(primary.tag, dialect.rules)
        found.append(Setting("/ip/dhcp-client", primary.interface, "script", script, by="interface", beside=True))
    return tuple(found)


def no_longer(former: Mapping[str, str], today: Collection[Setting]) -> tuple[Setting, ...]:
    """The settings whose former values are saved and that today's site does not adopt."""
    found = []
    for key in former.keys() - {setting.key for setting in (*today, *ACCESS)}:
        parts = _KEY.fullmatch(key)
        if parts:
            menu, row, attribute = parts.groups()
            by = "interface" if menu in _BY_INTERFACE else "name"
            early = menu in ("/interface/bridge/port", "/interface/ethernet")
            found.append(Setting(menu, row or None, attribute, "", by, beside=attribute == "script", early=early))
    return tuple(sorted(found, key=lambda setting: setting.key))


_KEY = re.compile(r"(/[a-z0-9/-]+)\[([^\]]*)\]\.([a-z-]+)")
_BY_INTERFACE = ("/interface/bridge/port", "/ip/dhcp-client")


def _port(uplink: Uplink, *, poe: bool) -> list[Setting]:
    """A backup's port leaves the bridge, where the LAN would reach the modem past every rule; no power to a modem."""
    found = [Setting("/interface/bridge/port", uplink.interface, "disabled", "yes", by="interface", early=True)]
    if poe:
        found.append(Setting("/interface/ethernet", uplink.interface, "poe-out", "off", early=True))
    return found


class Changes(Struct, frozen=True):
    """What goes before the changes of our rows, and what after them."""

    before: list[Set]
    after: list[Set]


def adopting(seen: Found) -> tuple[Changes, dict[str, str]]:
    """Changes that adopt, and the former values to save first."""
    changes, former = Changes([], []), {}
    for setting, (row_id, value) in seen.items():
        wanted = setting.wanted(value)
        if not same(wanted, value):
            way = changes.before if setting.early else changes.after
            way.append(Set(setting.menu, row_id, {setting.attribute: wanted}))
            former[setting.key] = scripts.without(value) if setting.beside else value
    return changes, former


def giving_back(seen: Found, former: Mapping[str, str]) -> Changes:
    """Changes that restore every saved value. Our part of a script is told by its marks, whatever was saved."""
    changes = Changes([], [])
    for setting, (row_id, value) in seen.items():
        if setting.key not in former and not setting.beside:
            continue
        back = scripts.without(value) if setting.beside else former[setting.key]  # the owner's part may be another now
        if not same(back, value):
            way = changes.after if setting.early else changes.before
            way.append(Set(setting.menu, row_id, {setting.attribute: back}))
    return changes
