"""API words to a request, and the arguments of a request to checked values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.values import InvalidError, Kind, Names, NoMatchError


@dataclass(frozen=True)
class Request:
    """One sentence from a client, taken apart. The order of the words after the first carries no meaning."""

    path: str
    attributes: Mapping[str, str]
    queries: tuple[str, ...]
    tag: str | None

    @property
    def menu(self) -> str:
        """The menu of the command: ``/ip/route`` of ``/ip/route/add``."""
        return self.path.rpartition("/")[0]

    @property
    def command(self) -> str:
        """The last part of the path: ``add`` of ``/ip/route/add``."""
        return self.path.rpartition("/")[2]


def parse_request(words: Sequence[str]) -> Request:
    """Take a sentence apart; words that are no attribute, query or tag are refused."""
    attributes: Row = {}
    queries: list[str] = []
    tag: str | None = None
    for word in words[1:]:
        if word.startswith("="):
            name, _, value = word[1:].partition("=")
            attributes[name] = value
        elif word.startswith("?"):
            queries.append(word)
        elif word.startswith(".tag="):
            tag = word.removeprefix(".tag=")
        else:
            raise Trap(f"unknown parameter {word}", 5)
    return Request(words[0], attributes, tuple(queries), tag)


def tag_of(words: Iterable[str]) -> str | None:
    """The tag of a sentence that may not parse otherwise."""
    return next((word.removeprefix(".tag=") for word in words if word.startswith(".tag=")), None)


def check_arguments(given: Mapping[str, str], known: Mapping[str, Kind], names: Names) -> Row:
    """The arguments as the router keeps them; raises the trap it would answer."""
    values: Row = {}
    for name, text in given.items():
        if name not in known:
            raise Trap(f"unknown parameter {name}")
        try:
            values[name] = known[name].normalise(text, names)
        except NoMatchError:
            raise Trap(f"input does not match any value of {name}", 1) from None
        except InvalidError:
            raise Trap(f"invalid value for argument {name}", 1) from None
    return values


def check_required(values: Mapping[str, str], required: Iterable[str]) -> None:
    """Refuse a command that lacks an argument."""
    for name in required:
        if name not in values:
            raise Trap(f"missing ={name}=", 1)
