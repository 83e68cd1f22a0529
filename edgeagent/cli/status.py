"""``edgeagent status``: where voice goes now, and what is wrong."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from typing import Any

from edgeagent import texts
from edgeagent.cli.declare import Commands, command, flag
from edgeagent.config.site import load

STATUS_MAX_BYTES = 1 << 20


def add(commands: Commands) -> None:
    """Declare the command."""
    how = command(commands, "status", main).add_mutually_exclusive_group()
    for option in ("--json", "--watch"):
        flag(how, "status", option)


def main(arguments: argparse.Namespace) -> int:
    """Ask the running agent; 1 where something is wrong, 2 where no agent answers. A watch ends with 0, by Ctrl-C."""
    site = load(arguments.site)
    if arguments.watch:
        from edgeagent.cli import watch

        return watch.run(site.control_socket)
    try:
        document = ask(site.control_socket)
    except (OSError, ValueError) as error:
        print(texts.screen("no agent", file=site.control_socket, why=str(error)), file=sys.stderr)
        return 2
    print(json.dumps(document, indent=2) if arguments.json else "\n".join(lines(document)))
    return 1 if document["faults"] else 0


def lines(document: dict[str, Any]) -> list[str]:
    """The status as a person reads it."""
    values = {key: document[key] for key in ("site", "path", "phase", "phones", "calls")}
    found = [texts.screen("status", lasting=lasting(document), **values)]
    for name, path in document["paths"].items():
        ago_s, address = path["answered_ago_s"], path["address"] or "none"
        answered = texts.screen("path silent") if ago_s is None else texts.screen("path answered", seconds=ago_s)
        found.append(texts.screen("path", name=name, verdict=path["verdict"], address=address, answered=answered))
    found += _rows(document.get("rows"))
    for code, since_s in document["faults"].items():
        what, meaning, todo, who = texts.fault(code)
        found.append(texts.screen("fault", code=code, since_s=since_s, what=what, meaning=meaning, todo=todo, who=who))
    return found


def lasting(document: dict[str, Any]) -> str:
    """For how long voice has been where it is; empty where that was so before the agent came."""
    since_s = document["since_s"]
    return "" if since_s is None else texts.screen("lasting", seconds=since_s)


def _rows(rows: dict[str, Any] | None) -> list[str]:
    """What differs in the router; nothing where all is as it should be, or the agent is one that does not look."""
    if rows is None:
        return []
    found = [texts.screen("rows unprovisioned")] if rows["provisioned"] is False else []
    found += [texts.screen("rows other", owner=rows["led_by"])] if rows["led_by"] else []
    for one in rows["found"]:
        values = {key: one[key] or "" for key in ("attribute", "was", "wanted")}
        detail = texts.screen("rows detail", **values) if one["attribute"] else ""
        left = texts.screen("rows left") if one["left"] else ""
        found.append(texts.screen("rows differ", thing=one["thing"], kind=one["kind"], detail=detail, left=left))
    more = rows["differing"] - len(rows["found"])
    found += [texts.screen("rows more", count=more)] if more > 0 else []
    things = rows["unapplied_things"]
    found += [texts.screen("rows unapplied", thing=thing) for thing in things]
    more = rows["unapplied"] - len(things)
    return [*found, *([texts.screen("rows more unapplied", count=more)] if more > 0 else [])]


def ask(path: str) -> dict[str, Any]:
    """The running agent's status document; raises OSError and ValueError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5.0)
        client.connect(path)
        received = b""
        while not received.endswith(b"\n") and len(received) < STATUS_MAX_BYTES:
            part = client.recv(65536)
            if not part:
                break
            received += part
    document = json.loads(received)
    if not isinstance(document, dict) or document.get("format") != 1:
        raise ValueError(texts.screen("other format"))
    return document
