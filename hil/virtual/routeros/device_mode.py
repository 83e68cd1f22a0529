"""What a board forbids until somebody presses a button on it, from 7.17 on (MikroTik manual, "Device-mode").

Boards shipped with 7.17 or later come in mode ``home``; those upgraded to it are in ``advanced``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from hil.virtual.routeros.menu import Menu
from hil.virtual.routeros.menus import DEVICE_MODE
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

DeviceMode = Literal["advanced", "home"]

REFUSAL: Final = "failure: not allowed by device-mode"
_OFF_IN: Final[Mapping[DeviceMode, tuple[str, ...]]] = {
    "advanced": ("traffic-gen", "container", "partitions", "routerboard", "install-any-version"),
    "home": (
        *("bandwidth-test", "container", "email", "fetch", "hotspot", "install-any-version", "partitions", "proxy"),
        *("romon", "routerboard", "scheduler", "sniffer", "socks", "traffic-gen", "zerotier"),
    ),
}
_FEATURES: Final = (
    *("scheduler", "socks", "fetch", "pptp", "l2tp", "bandwidth-test", "traffic-gen", "sniffer", "ipsec", "romon"),
    *("proxy", "hotspot", "smb", "email", "zerotier", "container", "install-any-version", "partitions", "routerboard"),
)
# What each menu here needs; making or enabling a row is refused, looking at it and taking it away are not.
_NEEDS: Final[Mapping[str, str]] = {"/system/scheduler": "scheduler"}


def mode_record(mode: DeviceMode) -> Row:
    """The record of /system/device-mode."""
    features = {name: "false" if name in _OFF_IN[mode] else "true" for name in _FEATURES}
    return {"mode": mode, "allowed-versions": "7.13+,6.49.8+", "flagged": "false", **features, "attempt-count": "0"}


def allowed(store: Store, feature: str) -> bool:
    """Whether the mode of this router allows a feature; versions before 7.17 have no modes."""
    return DEVICE_MODE not in store.menus or store.single(DEVICE_MODE).get(feature) != "false"


def refuse_by_device_mode(store: Store, menu: Menu, command: str) -> None:
    """Refuse to make or enable what the mode of the device forbids."""
    feature = _NEEDS.get(menu.path)
    if feature is not None and command in ("add", "set", "enable") and not allowed(store, feature):
        raise Trap(REFUSAL)
