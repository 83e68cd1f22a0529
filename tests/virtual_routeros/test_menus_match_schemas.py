"""Everything this router accepts must exist on a real one of that version, as far as schema files can tell.

The files are not part of this project; $EDGEAGENT_ROUTEROS_SCHEMAS names a folder that holds them. They come from a
virtual x86 router (7.22) and from a list of fields (6.49), so some things that real boards have are missing in them:
those are excepted here, each with its reason.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

from hil.virtual.routeros.menu import SWITCH
from hil.virtual.routeros.menus import COMMANDS, MENUS

VARIABLE: Final = "EDGEAGENT_ROUTEROS_SCHEMAS"

# What the API has and the console does not: the schema files describe the console.
API_ONLY: Final = {"getall": "the API's old name of print", "listen": "the API's form of print follow"}

V7_MENUS: Final = {
    "/ipv6/nd": "the file leaves router advertisements out",
    "/ppp/secret": "the file leaves PPP out",
    "/system/routerboard": "hardware only; the file comes from a virtual router",
    "/tool/mac-server/mac-winbox": "the file leaves out what is below /tool/mac-server",
    "/tool/mac-server/ping": "the file leaves out what is below /tool/mac-server",
}
V7_FIELDS: Final = {
    ("/interface/ethernet", "poe-out"): "hardware only; the file comes from a virtual router",
    ("/ip/firewall/filter", "hw-offload"): "hardware only; exports of boards with the factory's firewall have it",
}
V7_VALUES: Final = {
    ("check-gateway", "bfd"): "the manual lists it, completion on a router without BFD does not",
}

V6_MENUS: Final = {
    "/certificate": "rows that export leaves out are not described",
    "/file": "rows that export leaves out are not described",
    "/interface": "the source describes interfaces by type only",
    "/interface/pppoe-client": "the source leaves PPP out",
    "/ip/cloud": "the source, as it is stored here, leaves the cloud out",
    "/ip/firewall/connection": "rows that cannot be configured are not described",
    "/ip/neighbor": "rows that cannot be configured are not described",
    "/ipv6/address": "the source, as it is stored here, leaves it out",
    "/ipv6/nd": "the source, as it is stored here, leaves it out",
    "/log": "rows that cannot be configured are not described",
    "/ppp/secret": "the source leaves PPP out",
    "/system/history": "rows that cannot be configured are not described",
    "/system/package": "rows that cannot be configured are not described",
    "/system/resource": "settings that cannot be configured are not described",
    "/system/routerboard": "settings that cannot be configured are not described",
    "/tool/mac-server": "the source, as it is stored here, leaves it out",
    "/tool/mac-server/mac-winbox": "the source, as it is stored here, leaves it out",
    "/tool/mac-server/ping": "the source, as it is stored here, leaves it out",
    "/tool/netwatch": "the source never described it for 6",
    "/user/active": "rows that cannot be configured are not described",
    "/user/ssh-keys": "rows that export leaves out are not described",
}
V6_FIELDS: Final = {
    ("/ipv6/firewall/address-list", "timeout"): "the source lists configuration; a row with a timeout is not kept",
    ("/ip/firewall/address-list", "timeout"): "the source lists configuration; a row with a timeout is not kept",
}


def _schema(name: str) -> dict[str, Any]:
    folder = os.environ.get(VARIABLE)
    if folder is None:
        pytest.skip(f"{VARIABLE} does not name a folder with RouterOS schema files")
    schema: dict[str, Any] = json.loads((Path(folder) / name).read_text("utf-8"))
    return schema


def _arguments(menu: dict[str, Any], command: str) -> dict[str, Any]:
    found: dict[str, Any] = menu["commands"][command]
    if "=add" not in found:
        return found
    kept = {name: value for name, value in menu["commands"]["add"].items() if name not in found["=add"]["minus"]}
    return kept | {name: {} for name in found["=add"]["plus"]}


def test_menus_and_arguments_of_7_exist_on_7() -> None:
    menus = _schema("schema-7.22.3.json")["menus"]
    unknown: list[str] = []
    for path, menu in MENUS["7.22"].items():
        if path not in menus:
            unknown += [path] * (path not in V7_MENUS)
            continue
        for command in menu.commands - API_ONLY.keys():
            if command not in menus[path]["commands"]:
                unknown.append(f"{path}/{command}")
                continue
            known = _arguments(menus[path], command)
            for name in menu.arguments(command):
                if name not in known and (path, name) not in V7_FIELDS:
                    unknown.append(f"{path}/{command} {name}")
        if "listen" in menu.commands:
            unknown += [f"{path}/listen"] * ("follow" not in menus[path]["commands"]["print"])
    assert unknown == []


def test_words_that_7_chooses_from_exist_on_7() -> None:
    menus = _schema("schema-7.22.3.json")["menus"]
    unknown: list[str] = []
    for path, menu in MENUS["7.22"].items():
        if path not in menus:
            continue
        known = _arguments(menus[path], "add" if "add" in menu.commands else "set") if menu.fields else {}
        for name, kind in menu.fields.items():
            offered = known.get(name, {}).get("v", [])
            if not offered or not kind.name.startswith("enum "):
                continue
            words = set(kind.name.removeprefix("enum ").split(","))
            unknown += [f"{path} {name}={word}" for word in words - set(offered) if (name, word) not in V7_VALUES]
    assert unknown == []


def test_commands_of_7_exist_on_7() -> None:
    schema = _schema("schema-7.22.3.json")
    for path, command in COMMANDS["7.22"].items():
        menu, _, name = path.rpartition("/")
        known = schema["commands"].get(path) or schema["menus"].get(menu, {"commands": {name: {}}})["commands"][name]
        assert command.arguments.keys() - {".id"} <= known.keys()


def test_menus_and_fields_of_6_exist_on_6() -> None:
    menus = _schema("fields-6.49-ansible.json")["menus"]
    unknown: list[str] = []
    for path, menu in MENUS["6.49"].items():
        if path not in menus or "fields" not in menus[path]:
            unknown += [path] * (path not in V6_MENUS)
            continue
        for name in menu.fields:
            if name not in menus[path]["fields"] and (path, name) not in V6_FIELDS:
                unknown.append(f"{path} {name}")
    assert unknown == []


def test_exceptions_are_still_needed() -> None:
    seven = _schema("schema-7.22.3.json")["menus"]
    six = _schema("fields-6.49-ansible.json")["menus"]
    assert not V7_MENUS.keys() & seven.keys()
    assert not [path for path in V6_MENUS if "fields" in six.get(path, {})]
    assert not [(path, name) for path, name in V6_FIELDS if name in six[path]["fields"]]
    assert all(reason for table in (V7_MENUS, V7_FIELDS, V7_VALUES, V6_MENUS, V6_FIELDS) for reason in table.values())


def test_only_6_has_rules_under_routes_and_only_7_has_tables() -> None:
    assert MENUS["6.49"].keys() - MENUS["7.22"].keys() == {"/ip/route/rule"}
    assert MENUS["7.22"].keys() - MENUS["6.49"].keys() == {
        "/routing/rule", "/routing/settings", "/routing/table", "/system/device-mode", "/system/ntp/client/servers",
    }  # fmt: skip
    assert {path for path, menu in MENUS["7.22"].items() if menu.commands >= SWITCH} >= {"/ip/route", "/interface"}
