"""Rows and adopted settings as script text, for a person to read and to import. Pure.

The script makes what ``edgeagent provision --apply`` makes, in the same order, so that each line leaves voice with a
usable route (clause P2); while a next hop is not known the routes through it are not in use. It refuses a router that
holds rows of ours already: of such a one no script can know what is missing. No variable lives from one line of the
file to the next, for with ``/import verbose=yes`` none would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from edgeagent.routeros import adopted, fallback, meaning, scripts
from edgeagent.routeros.adopted import Setting
from edgeagent.routeros.console import OURS, command, count, file, path, refuse, standing, text, value, words
from edgeagent.routeros.rows import DHCP, TAG, Dialect, Row, Uplink, Wish
from edgeagent.routeros.ruleset import ORDERED, REMOVED_FIRST, build

Say = Callable[..., str]
"""The sentence of a code (texts/), with the values that stand in it."""

HERE = "here"  # the name of the row above which ours are put
_PLACE = f"[find where comment={text(TAG + HERE)}]"
_VERSIONS = {"6": (r"^6\.49", "6.49"), "7": (r"^7\.(1[2-9]|[2-9][0-9])", "7.12 or later")}
# What a menu needs to take a row that does nothing.
_IDLE = {"/ip/firewall/nat": "chain=srcnat action=passthrough"}
_IDLE |= dict.fromkeys(("/routing/rule", "/ip/route/rule"), "action=lookup table=main")
_IDLE_ELSEWHERE = "chain=forward action=passthrough"


def rules(wish: Wish, dialect: Dialect, say: Say, meant: Say, *, title: str, name: str, poe: Sequence[str]) -> str:
    """All of ours for a router without any. ``title``: what router; ``name``: of the file; ``poe`` as adopted has it.

    An uplink by DHCP has NO_GATEWAY as gateway and address in ``wish``; the script asks the router's client for both.
    """
    rows = build(wish, dialect)
    settings = adopted.settings(wish, dialect, poe=poe)
    menus = [menu for menu in ORDERED if any(row.menu == menu for row in rows)]
    return file(
        say("rules", title=title, version=_VERSIONS[dialect.version][1], name=name),
        [
            (say("checks"), [_version_check(dialect, say), *_rows_checks(rows, settings, say)]),
            (say("settings before"), [_setting(one) for one in settings if one.early]),
            (say("places"), [line for menu in menus for line in _place(menu)]),
            *_sections([row for row in rows if row.menu not in REMOVED_FIRST], meant),
            (say("job"), [_job(row, say) for row in rows if row.menu in REMOVED_FIRST]),
            (say("settings"), [_setting(one) for one in settings if not one.early]),
            (say("places gone"), [f"{path(menu)} remove {_PLACE}" for menu in menus]),
            (say("told"), [_told(uplink, dialect) for uplink in wish.uplinks if uplink.kind == DHCP]),
            (say("flows"), [_flows(wish.voice)]),
        ],
    )


def leases(dialect: Dialect, tags: Sequence[str], interface: str, say: Say) -> str:
    """The DHCP scripts alone, for the client of the primary on ``interface`` and those of the backups."""
    found = [f"interface={value(interface)}", *(f"comment={text(f'{TAG}dhcp-{tag}')}" for tag in tags[1:])]
    ours = [scripts.lease(tag, dialect.rules) for tag in tags]
    lines = [_beside(f"{found[0]} and !(script~{text(scripts.BEGIN)})", ours[0])]
    for where, script in zip(found[1:], ours[1:], strict=True):
        lines.append(command([f"/ip dhcp-client set [find where {where}]", f"script={text(script)}"]))
    head = say("lease", version=_VERSIONS[dialect.version][1])
    checks = [_version_check(dialect, say), refuse(count("/ip/route", OURS), "= 0", say("no rows"))]
    return file(head, [(say("checks"), checks), (None, lines)])


def watches(wish: Wish, say: Say, *, title: str) -> str:
    """The netwatch form of the flush in place of the scheduler's."""
    there = refuse(count("/ip/route", OURS), "= 0", say("no rows"))
    double = refuse(count("/tool/netwatch", OURS), "> 0", say("rows there"))
    gone = f"/system scheduler remove [find where {OURS}]"
    rows = [_row(row) for row in fallback.flush(wish)]
    return file(say("netwatch", title=title), [(say("checks"), [there, double]), (None, [gone, *rows])])


def _version_check(dialect: Dialect, say: Say) -> str:
    pattern, version = _VERSIONS[dialect.version]
    said = text(say("wrong version", version=version))
    return f":if (!([/system resource get version] ~ {text(pattern)})) do={{ :error {said} }}"


def _rows_checks(rows: Sequence[Row], settings: Iterable[Setting], say: Say) -> list[str]:
    said = say("rows there")
    menus = dict.fromkeys(row.menu for row in rows)
    found = [refuse(count(menu, standing(menu)), "> 0", said) for menu in menus]
    begun = text(scripts.BEGIN)
    return found + [refuse(count(one.menu, f"{one.attribute}~{begun}"), "> 0", said) for one in settings if one.beside]


def _sections(rows: Sequence[Row], meant: Say) -> Iterable[tuple[str, list[str]]]:
    """Rows under what they are for, as ``--plan`` shows them."""
    for code, group in groupby(rows, meaning.of_row):
        lines: list[str] = []
        for menu, together in groupby(group, lambda row: row.menu):
            lines += [path(menu), *(_added(row) for row in together)]
        yield meant(code), lines


def _row(row: Row) -> str:
    return command([f"{path(row.menu)} add", f"comment={text(row.comment)}", *words(row.menu, row.attributes)])


def _job(row: Row, say: Say) -> str:
    return f":do {{\n{_row(row)}\n}} on-error={{ :put {text(say('no job'))} }}"


def _added(row: Row) -> str:
    """The row within its menu."""
    place = [f"place-before={_PLACE}"] if row.menu in ORDERED else []
    return command(["add", f"comment={text(row.comment)}", *place, *words(row.menu, row.attributes)])


def _place(menu: str) -> list[str]:
    """A row that does nothing, on top of all that can be moved: nothing can be put above dynamic rows."""
    idle = _IDLE.get(menu, _IDLE_ELSEWHERE)
    # Rules are never dynamic, and 6 does not know the word there.
    movable = "[find]" if menu.endswith("/rule") else "[find where dynamic=no]"
    top = f"[:pick {movable.replace('find', f'{path(menu)} find')} 0]"
    rows = f"[:len {movable.replace('find', f'{path(menu)} find')}]"
    move = f"{path(menu)} move {_PLACE} destination={top}"
    return [
        path(menu),
        f"add {idle} disabled=yes comment={text(TAG + HERE)}",
        f":if ({rows} > 1) do={{ {move} }}",
    ]


def _setting(one: Setting) -> str:
    if one.beside:
        return _beside(f"{one.by}={value(one.row or '')}", one.value)
    row = "" if one.row is None else f" [find where {one.by}={value(one.row)}]"
    change = f"{path(one.menu)} set{row} {one.attribute}={value(one.value)}"
    if one.only is None:
        return change
    found = f"[:tostr [{path(one.menu)} get {one.attribute}]]"
    pattern = text(f"^({'|'.join(one.only)})$")
    return f":if ({found} ~ {pattern}) do={{ {change} }}"


def _beside(where: str, ours: str) -> str:
    """A DHCP client's script: the owner's own, and ours after it."""
    return "\n".join(
        [
            f":foreach edgeRow in=[/ip dhcp-client find where {where}] do={{",
            "  :local edgeOwners [:tostr [/ip dhcp-client get $edgeRow script]]",
            '  :if ([:len $edgeOwners] > 0) do={ :set edgeOwners ($edgeOwners . "\\n") }',
            f"  /ip dhcp-client set $edgeRow script=($edgeOwners . {text(scripts.beside('', ours))})",
            "}",
        ]
    )


def _told(uplink: Uplink, dialect: Dialect) -> str:
    """What the lease script of this path would do, if its client were told once more what it was told before."""
    inner = scripts.lease(uplink.tag, dialect.rules).replace("\n", "\n  ")
    get = "[/ip dhcp-client get $edgeClient"
    bound = f'interface={value(uplink.interface)} and status="bound"'
    return "\n".join(
        [
            f":foreach edgeClient in=[/ip dhcp-client find where {bound}] do={{",
            "  :local bound 1",
            f'  :local "gateway-address" {get} gateway]',
            f"  :local edgeText [:tostr {get} address]]",
            '  :local "lease-address" [:pick $edgeText 0 [:find $edgeText "/"]]',
            f"  {inner}",
            "}",
        ]
    )


def _flows(prefixes: Sequence[str]) -> str:
    """Remove all connections with the provider; one that has ended meanwhile is none to remove."""
    among = " or ".join(f"($edgeTo in {prefix})" for prefix in prefixes)
    return "\n".join(
        [
            ":foreach edgeFlow in=[/ip firewall connection find] do={",
            "  :do {",
            "    :local edgeText [:tostr [/ip firewall connection get $edgeFlow dst-address]]",
            '    :local edgeEnd [:find $edgeText ":"]',
            '    :if ([:typeof $edgeEnd] = "num") do={ :set edgeText [:pick $edgeText 0 $edgeEnd] }',
            "    :local edgeTo [:toip $edgeText]",
            f"    :if ({among}) do={{ /ip firewall connection remove $edgeFlow }}",
            "  } on-error={ }",
            "}",
        ]
    )
