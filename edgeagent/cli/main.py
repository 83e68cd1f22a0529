"""``edgeagent``: the command line. Exit codes: 0 good, 1 not so, 2 cannot.

Each command is one module that offers ``add(commands)``, which declares it, and ``main(arguments)``, which carries it
out. What a command needs beyond its words it imports when it runs, so that no command pays for another.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from edgeagent import texts
from edgeagent.cli import (
    addresses,
    bundle,
    check_config,
    check_store,
    config,
    identity,
    provision,
    run,
    status,
)
from edgeagent.config.site import ConfigError

DEFAULT_SITE = Path("/etc/edgeagent/site.toml")
COMMANDS = (run, status, check_config, config, check_store, provision, addresses, identity, bundle)


def parser() -> argparse.ArgumentParser:
    """Every command with its options; the man page and the completions are generated from this."""
    found = argparse.ArgumentParser(prog="edgeagent", description=texts.help_of(""))
    found.add_argument("--site", type=Path, default=DEFAULT_SITE, help=texts.help_of("--site"), metavar="FILE")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a site's name on a terminal that lacks its letters
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.main(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        print(texts.screen("config broken", count=len(error.problems)), file=sys.stderr)
        return 1 if error.may_pass else 2
    return code


if __name__ == "__main__":
    sys.exit(main())
