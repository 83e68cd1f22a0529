"""``edgeagent check-store [FILE]``: whether this version can use a store, tried on a copy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeagent import texts
from edgeagent.cli.declare import Commands, command
from edgeagent.config.site import load
from edgeagent.store.errors import StoreUnavailable

JUDGED = {"corrupt": 1, "newer": 2, "foreign": 2}  # what is said of the store; all else is said of the disk
NOT_TRIED = 3


def add(commands: Commands) -> None:
    """Declare the command."""
    found = command(commands, "check-store", main)
    found.add_argument("file", type=Path, nargs="?", metavar="FILE", help=texts.help_of("check-store file"))


def main(arguments: argparse.Namespace) -> int:
    """0: it can, or there is none yet; 1: it is damaged, would be begun anew; 2: it cannot; 3: could not be tried."""
    from edgeagent.host.ownership import as_owner
    from edgeagent.store.check import check
    from edgeagent.store.schema import FORMAT

    path = arguments.file or Path(load(arguments.site).state_folder) / "store.db"
    if not path.exists():
        print(texts.screen("store none", file=str(path)))
        return 0
    try:
        with as_owner(path.parent):
            found = check(path)
    except StoreUnavailable as error:
        print(texts.screen("store not usable", why=str(error)), file=sys.stderr)
        return JUDGED.get(error.reason, NOT_TRIED)
    code = "store ok" if found.found == FORMAT else "store older" if found.found else "store empty"
    values = {"found": found.found, "known": FORMAT, "lines": found.lines, "waiting": found.waiting}
    print(texts.screen(code, file=str(path), **values))
    return 0
