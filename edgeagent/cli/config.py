"""``edgeagent config``: the settings in force, and where each came from."""

from __future__ import annotations

import argparse
import json

import msgspec

from edgeagent import texts
from edgeagent.cli.declare import Commands, command, flag
from edgeagent.config.effective import Setting, effective

FORMAT = 1


def add(commands: Commands) -> None:
    """Declare the command."""
    group = command(commands, "config", main)
    flag(group, "config", "--origin")
    flag(group, "config", "--json")


def main(arguments: argparse.Namespace) -> int:
    """Print them; secrets stand in files that these name, and are not read."""
    found = effective(arguments.site)
    if arguments.json:
        settings = [msgspec.to_builtins(one) for one in found]
        print(json.dumps({"format": FORMAT, "file": str(arguments.site), "settings": settings}, indent=2))
    else:
        print("\n".join(line(one, arguments.origin) for one in found))
    return 0


def line(setting: Setting, with_origin: bool) -> str:
    """``key = value``, as TOML has it, then unit and origin as a comment."""
    value = json.dumps(setting.value, ensure_ascii=False)
    said = texts.screen("setting", key=setting.key, value=value)
    origin = ""
    if with_origin:
        code = "origin" if setting.line is None else "origin line"
        origin = texts.screen(code, origin=setting.origin, line=setting.line)
    remark = ", ".join(part for part in (setting.unit, origin) if part)
    return texts.screen("setting remark", setting=said, remark=remark) if remark else said
