"""``edgeagent identity``: who this installation is, as the fleet will know it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeagent import texts
from edgeagent.cli.declare import Commands, command, flag

DEFAULT_FOLDER = Path("/var/lib/edgeagent")


def add(commands: Commands) -> None:
    """Declare the command."""
    declared = command(commands, "identity", main)
    how = declared.add_mutually_exclusive_group(required=True)
    for option in ("--create", "--show"):
        flag(how, "identity", option)
    said = texts.help_of("identity --folder")
    declared.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help=said)


def main(arguments: argparse.Namespace) -> int:
    """Show it; 1 where it does not exist yet, 2 where it is damaged or cannot be read. It needs no site.toml."""
    from edgeagent.host import keys

    try:
        found = keys.create(arguments.folder) if arguments.create else keys.load(arguments.folder)
    except keys.IdentityMissing as error:
        print(texts.screen("identity missing", file=error.filename), file=sys.stderr)
        return 1
    except keys.IdentityDamaged as error:
        values = {"file": str(error.path), "found": error.found, "expected": error.expected}
        print(texts.screen("identity damaged", **values), file=sys.stderr)
        return 2
    except OSError as error:
        print(texts.screen("unreadable", file=error.filename, why=error.strerror), file=sys.stderr)
        return 2
    print(texts.screen("identity", installation=found.installation, public=found.public))
    return 0
