"""The closed list of the owner's settings that we change, and why. Former values are saved first and given back.

Everything else of the owner's stays as it is, to the byte (clause P4).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from edgeagent.routeros.diff import Set, same


class Setting(Struct, frozen=True):
    """One adopted value: ``attribute`` of the row of ``menu`` named ``row`` (None: the menu is a single record)."""

    menu: str
    row: str | None
    attribute: str
    value: str

    @property
    def key(self) -> str:
        """Under which the former value is kept."""
        return f"{self.menu}[{self.row or ''}].{self.attribute}"


# Shorter timers make a phone without keep-alive uncallable between two registrations, and lose the far end's BYE.
# The SIP helper rewrites signalling in ways hosted providers ask to be spared.
ADOPTED = (
    Setting("/ip/firewall/connection/tracking", None, "udp-timeout", "3m"),
    Setting("/ip/firewall/connection/tracking", None, "udp-stream-timeout", "3m"),
    Setting("/ip/firewall/service-port", "sip", "disabled", "yes"),
)


def adopting(seen: Mapping[Setting, tuple[str, str]]) -> tuple[list[Set], dict[str, str]]:
    """Changes that adopt, and the former values to save first; ``seen`` maps each setting to (row id, value)."""
    changes, former = [], {}
    for setting, (row_id, value) in seen.items():
        if not same(setting.value, value):
            changes.append(Set(setting.menu, row_id, {setting.attribute: setting.value}))
            former[setting.key] = value
    return changes, former


def giving_back(seen: Mapping[Setting, tuple[str, str]], former: Mapping[str, str]) -> list[Set]:
    """Changes that restore every saved value."""
    return [
        Set(setting.menu, row_id, {setting.attribute: former[setting.key]})
        for setting, (row_id, value) in seen.items()
        if setting.key in former and not same(former[setting.key], value)
    ]
