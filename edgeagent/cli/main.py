"""``edgeagent``: the command line. Each command is a small function; exit codes are 0 good, 1 not so, 2 cannot."""

from __future__ import annotations

import argparse
import json
import logging
import socket
import sys
from pathlib import Path
from typing import Any

from edgeagent import texts
from edgeagent.config.site import ConfigError, Site, load

DEFAULT_SITE = Path("/etc/edgeagent/site.toml")
STATUS_MAX_BYTES = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="edgeagent", description="Keeps a site's phones reachable over LTE.")
    parser.add_argument("--site", type=Path, default=DEFAULT_SITE, help="the site's configuration (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the agent in the foreground")
    run.add_argument("--verbose", action="store_true", help="log every probe that could not be sent")
    commands.add_parser("check-config", help="check site.toml and say everything that is wrong with it")
    status = commands.add_parser("status", help="where voice goes now, and what is wrong")
    status.add_argument("--json", action="store_true", help="the whole status document")
    provision = commands.add_parser("provision", help="put the rules that failover needs into the router")
    how = provision.add_mutually_exclusive_group(required=True)
    how.add_argument("--plan", action="store_true", help="show what would change, change nothing")
    how.add_argument("--apply", action="store_true", help="make the router so")
    how.add_argument("--remove", action="store_true", help="take everything of ours away, give settings back")
    arguments = parser.parse_args(argv)
    try:
        site = load(arguments.site)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return _run(arguments, site)


def _run(arguments: argparse.Namespace, site: Site) -> int:
    if arguments.command == "check-config":
        paths = ", ".join(path.name for path in site.paths)
        print(texts.screen("config ok", file=str(arguments.site), site=site.id, paths=paths))
        return 0
    if arguments.command == "status":
        return _status(site, as_json=arguments.json)
    if arguments.command == "provision":
        from edgeagent.cli import provision

        verb = "remove" if arguments.remove else "apply" if arguments.apply else "plan"
        return provision.run(site, verb)
    from edgeagent.daemon import wiring

    level = logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    return wiring.main(site)


def _status(site: Site, *, as_json: bool) -> int:
    try:
        document = _ask(site.control_socket)
    except (OSError, ValueError) as error:
        print(f"No agent answers at {site.control_socket}: {error}. Is it running?", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    print(
        texts.screen(
            "status", **{key: document[key] for key in ("site", "path", "phase", "phones", "calls", "since_s")}
        )
    )
    for name, path in document["paths"].items():
        ago, address = path["answered_ago_s"], path["address"]
        print(texts.screen("path", name=name, verdict=path["verdict"], address=address or "none", answered=ago))
    for code, since_s in document["faults"].items():
        what, meaning, todo, who = texts.fault(code)
        print(texts.screen("fault", code=code, since_s=since_s, what=what, meaning=meaning, todo=todo, who=who))
    return 1 if document["faults"] else 0


def _ask(path: str) -> dict[str, Any]:
    """The running agent's status document."""
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
        raise ValueError("it speaks another format than this version")
    return document


if __name__ == "__main__":
    sys.exit(main())
