"""How a command declares itself: its name, its help from the catalogue, its function."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgeagent import texts

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = Any


def command(commands: Commands, name: str, main: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """A command whose help stands in the catalogue under its name."""
    said = texts.help_of(name)
    found = commands.add_parser(name, help=said, description=said)
    found.set_defaults(main=main)
    return found


def flag(group: argparse._ActionsContainer, name: str, option: str) -> None:
    """A switch of a command; its help stands under ``NAME OPTION``."""
    group.add_argument(option, action="store_true", help=texts.help_of(f"{name} {option}"))
