"""What a menu is: its settable fields, and what may be done with its rows. The menus themselves are in ``menus``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hil.virtual.routeros.values import FLAG, STRING, Kind, enum, reference

Fields = Mapping[str, Kind]

READ: Final = frozenset({"print", "getall"})
LISTEN: Final = READ | {"listen"}
SET: Final = frozenset({"set"})
SWITCH: Final = frozenset({"enable", "disable"})
EDIT: Final = frozenset({"add", "set", "remove"})

INTERFACE: Final = reference("/interface")
COMMON: Final[Fields] = {"comment": STRING, "disabled": FLAG}


@dataclass(frozen=True)
class Menu:
    """One menu: its settable fields and what may be done with its rows."""

    path: str
    commands: frozenset[str]
    fields: Fields = field(default_factory=dict)
    single: bool = False
    """One record of settings instead of rows."""
    required: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    unique: tuple[str, ...] = ()
    duplicate: str = "failure: already have such entry"
    auto_name: str = ""
    """Name given, with a number, to a row added without one."""
    secret: frozenset[str] = frozenset()
    """Fields that can be set and are never printed."""
    sensitive: frozenset[str] = frozenset()
    """Fields that only users with the policy ``sensitive`` see."""
    shows_dynamic: bool = True
    write_policy: str = "write"
    print_arguments: frozenset[str] = frozenset()

    @property
    def ordered(self) -> bool:
        """Whether the place of a row matters: ``move`` and ``place-before`` exist."""
        return "move" in self.commands

    def arguments(self, command: str) -> Fields:
        """The arguments of one command, without those of the API itself (``.id``, ``.proplist``)."""
        if command == "add":
            return {**self.fields, "place-before": STRING} if self.ordered else self.fields
        if command == "set":
            return self.fields if self.single else {**self.fields, "numbers": STRING}
        if command in ("print", "getall", "listen"):
            return dict.fromkeys(self.print_arguments, FLAG)
        if command == "move":
            return {"numbers": STRING, "destination": STRING}
        if command == "unset":
            return {"numbers": STRING, "value-name": STRING}
        return {"numbers": STRING}


@dataclass(frozen=True)
class Command:
    """A command outside the menus of rows."""

    path: str
    policies: tuple[str, ...]
    arguments: Fields = field(default_factory=dict)
    required: tuple[str, ...] = ()


def rows(path: str, commands: frozenset[str], fields: Fields | None = None, **more: object) -> Menu:
    """A menu of rows that supports ``count-only``, and ``follow`` where it can be listened to."""
    extra: frozenset[str] = frozenset({"count-only"})
    if "listen" in commands:
        extra |= {"follow", "follow-only"}
    if more.pop("stats", False):
        extra |= {"stats"}
    return Menu(path, commands, fields or {}, print_arguments=extra, **more)  # type: ignore[arg-type]


def settings(path: str, fields: Fields | None = None, defaults: Mapping[str, str] | None = None) -> Menu:
    """A menu of settings: one record, without rows."""
    return Menu(path, READ | SET if fields else READ, fields or {}, single=True, defaults=defaults or {})


ARP: Final = enum("disabled", "enabled", "local-proxy-arp", "proxy-arp", "reply-only")
