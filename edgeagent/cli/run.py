"""``edgeagent run``: the agent, in the foreground."""

from __future__ import annotations

import argparse
import logging
import sys

from edgeagent import texts
from edgeagent.cli import known
from edgeagent.cli.declare import Commands, command, flag
from edgeagent.config.redact import Redactor
from edgeagent.config.site import load

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Discreet(logging.Formatter):
    """Takes secrets, numbers and names out of every line: routers and mail servers may put them into their errors."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(FORMAT)
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry, a traceback included."""
        return self.redactor.line(super().format(record))


def add(commands: Commands) -> None:
    """Declare the command."""
    flag(command(commands, "run", main), "run", "--verbose")


def main(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 where another agent of this site runs here: a service tries again, it may end."""
    site = load(arguments.site)
    from edgeagent.daemon import wiring

    level = logging.DEBUG if arguments.verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    secrets = known.secrets(arguments.site).values
    redactor = Redactor(known.known(site, secrets))
    handler.setFormatter(Discreet(redactor))
    logging.basicConfig(level=level, handlers=[handler])
    try:
        return wiring.main(site, redactor.learn)
    except wiring.AlreadyRuns as error:
        print(texts.screen("agent runs", file=str(error)), file=sys.stderr)
        return 1
