"""The script that takes all of ours away from a router of either version. Pure.

It stands for ``edgeagent provision --remove`` where there is no agent any more, and with it no note of what the adopted
settings were.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeagent.core.settings import ALIVE_LIST, PRIMARY_TAG
from edgeagent.routeros import adopted, fallback, scripts
from edgeagent.routeros.console import OURS, file, path, remark, standing, text, value
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.render import Say
from edgeagent.routeros.rows import DEVICES, DRILL, TAG
from edgeagent.routeros.ruleset import BACKUPS, IPV6, REMOVED_FIRST, REMOVED_LAST, TABLES

_FACTORY = {"udp-timeout": "10s", "udp-stream-timeout": "3m", "disabled": "no"}  # of adopted.EVERYWHERE


def removal(menus: Sequence[str], say: Say) -> str:
    """All of ours away, on either version; ``menus`` of both, in the order in which they are built.

    The order is that of diff.removal_changes; within /ip/route the rows that hold voice on the primary go later.
    """
    middle = [menu for menu in reversed(menus) if menu not in (*REMOVED_FIRST, *REMOVED_LAST, TABLES)]
    gone: dict[str, list[str]] = {"first gone": [_gone(menu) for menu in REMOVED_FIRST], "rows gone": []}
    for menu in middle:
        gone["rows gone"] += _routes_gone(say) if menu == "/ip/route" else [_gone(menu)]
    gone["timed gone"] = [_timed_gone()]
    gone["settings back"] = _settings_back()
    gone["last gone"] = [_gone(menu) for menu in (*REMOVED_LAST, TABLES)]
    return file(say("removal"), [(say(code), lines) for code, lines in gone.items()])


def _gone(menu: str) -> str:
    """A menu that only some routers have is read when its turn has come: else they would refuse the whole file."""
    remove = f"{path(menu)} remove [find where {standing(menu)}]"
    where = _where(menu)
    if where is None:
        return remove
    return f":if ({where}) do={{ :local edgeDo [:parse {text(remove)}]; $edgeDo }}"


def _where(menu: str) -> str | None:
    """On which routers a menu is to be found; None for all."""
    version = "[/system resource get version]"
    if menu in IPV6:
        package = '[:len [/system package find where name="ipv6" and !disabled]]'
        return f'({version} ~ "^7") or ({package} > 0)'
    if menu.startswith("/routing/"):
        return f'{version} ~ "^7"'
    return f'{version} ~ "^6"' if menu == DialectV6.rules else None


def _routes_gone(say: Say) -> list[str]:
    later = [f"{fallback.NATIVE}{PRIMARY_TAG}-", fallback.CANARY]
    elsewhere = text(f"^{TAG}({'|'.join(later)})")
    others = f"{OURS} and !(comment~{elsewhere})"
    wheres = [others, *(f"comment~{text(f'^{TAG}{name}')}" for name in later)]
    return [remark(say("routes gone")), *(f"/ip route remove [find where {where}]" for where in wheres)]


def _timed_gone() -> str:
    """Each by itself: one may lapse meanwhile. Without our rules nothing is learnt any more."""
    lists = text(f"^({ALIVE_LIST}|{DEVICES}|{DRILL}|edge-[a-z0-9]+-(site|phone))$")
    return "\n".join(
        [
            f":foreach edgeRow in=[/ip firewall address-list find where list~{lists} and dynamic=yes] do={{",
            "  :do { /ip firewall address-list remove $edgeRow } on-error={ }",
            "}",
        ]
    )


def _settings_back() -> list[str]:
    """What a router has that is as the factory made it, and the owner's part of the DHCP scripts."""
    found = []
    for one in adopted.EVERYWHERE:
        was = _FACTORY[one.attribute]
        row = "" if one.row is None else f" [find where {one.by}={value(one.row)}]"
        found.append(f"{path(one.menu)} set{row} {one.attribute}={was}")
    discovery = "/ip neighbor discovery-settings"
    seen = f"[:tostr [{discovery} get discover-interface-list]]"
    found.append(f':if ({seen} = "!{BACKUPS}") do={{ {discovery} set discover-interface-list=static }}')
    # Only while rows of ours are there: imported once more, this changes nothing.
    there = f":foreach edgeList in=[/interface list find where {OURS}] do={{"
    return [there, *(f"  {line}" for line in found), "}", _ports_back(), _scripts_back()]


def _ports_back() -> str:
    """Not every board has PoE-out, and one without would not even read the word."""
    poe = '("/interface ethernet set [find where name=\\"" . $edgePort . "\\" and poe-out=off] poe-out=auto-on")'
    return "\n".join(
        [
            f":foreach edgeRow in=[/interface list member find where list={value(BACKUPS)}] do={{",
            "  :local edgePort [/interface list member get $edgeRow interface]",
            "  /interface bridge port set [find where interface=$edgePort and disabled=yes] disabled=no",
            f"  :do {{ :local edgeDo [:parse {poe}]; $edgeDo }} on-error={{ }}",
            "}",
        ]
    )


def _scripts_back() -> str:
    """What stands between our marks goes, and the line break before them."""
    begin, end = text(scripts.BEGIN), text(scripts.END)
    return "\n".join(
        [
            f":foreach edgeRow in=[/ip dhcp-client find where script~{begin} and script~{end}] do={{",
            "  :local edgeText [/ip dhcp-client get $edgeRow script]",
            f"  :local edgeFrom [:find $edgeText {begin}]",
            f"  :local edgeTo ([:find $edgeText {end}] + {len(scripts.END)})",
            "  :local edgeAfter [:pick $edgeText $edgeTo [:len $edgeText]]",
            "  :if ($edgeFrom > 0) do={ :set edgeFrom ($edgeFrom - 1) }",
            "  /ip dhcp-client set $edgeRow script=([:pick $edgeText 0 $edgeFrom] . $edgeAfter)",
            "}",
        ]
    )
