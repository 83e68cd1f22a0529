"""``/export``: the configuration as the script that makes it again (MikroTik manual, "Configuration Management").

Only what differs from the factory is written: of rows that the board brings along what was changed, of all others what
RouterOS would not fill in by itself. Left out are, as by RouterOS, rows that nobody wrote, users, certificates, files.
The clock apart, the same rows always give the same text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.boards import BOARDS, FULL_VERSION, factory_rows
from hil.virtual.routeros.derived import derived_values
from hil.virtual.routeros.kernel_syntax import quoted
from hil.virtual.routeros.menu import Menu
from hil.virtual.routeros.menus import BARE_FLAGS
from hil.virtual.routeros.plane import Row

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Entry, Store

LINE_MAX: Final = 79
# What others refer to comes first; then the menus by name.
_FIRST: Final = (
    *("/interface/bridge", "/interface/ethernet", "/interface", "/interface/list", "/routing/table", "/user/group"),
)
_LEFT_OUT: Final = frozenset(
    {
        "/certificate",
        "/file",
        "/ip/firewall/connection",
        "/ip/neighbor",
        "/log",
        "/user",
        "/user/active",
        "/user/ssh-keys",
    }
    | {f"/system/{name}" for name in ("device-mode", "history", "package", "resource", "routerboard")}
)
_BY_NAME: Final = ("/ip/firewall/service-port", "/ip/service", "/user/group")
# Written even where RouterOS would fill them in.
_ALWAYS: Final = frozenset({"action", "chain", "network"})


class Export:
    """Writes the configuration of one store."""

    def __init__(self, store: Store, *, secrets: bool, verbose: bool = False) -> None:
        self._store = store
        self._secrets = secrets
        self._verbose = verbose
        self._factory = factory_rows(store.version, store.profile)

    def text(self, below: str = "", *, terse: bool = False) -> str:
        """The script for the menus at and below a path; the lines end as the console's do."""
        lines = list(self._header())
        for path in sorted(self._store.menus, key=_place):
            if path in _LEFT_OUT or not f"{path}/".startswith(f"{below.rstrip('/')}/"):
                continue
            commands = list(self._commands(self._store.menus[path]))
            spaced = path[:1] + path[1:].replace("/", " ")
            if terse:
                lines += [f"{spaced} {' '.join(words)}" for words in commands]
            elif commands:
                lines += [spaced, *(line for words in commands for line in _wrapped(words))]
        return "\r\n".join(lines) + "\r\n"

    def _header(self) -> Iterator[str]:
        store = self._store
        yield f"# {store.wall_time()} by RouterOS {FULL_VERSION[store.version].split()[0]}"
        yield "# software id = EDGE-TEST"
        yield "#"
        if store.profile != "generic":
            yield f"# model = {BOARDS[store.profile].model}"
            yield f"# serial number = {store.single('/system/routerboard')['serial-number']}"

    def _commands(self, menu: Menu) -> Iterator[list[str]]:
        if menu.single:
            if changed := self._changed(menu, self._store.single(menu.path), dict(menu.defaults)):
                yield ["set", *changed]
            return
        factory = self._factory.get(menu.path, [])
        entries = self._store.entries(menu.path)
        standing = [entry for entry in entries if entry.builtin and not entry.dynamic]
        for entry, row in zip(standing, factory, strict=False):
            chosen = self._store.bound_ports.get(row["name"]) if menu.path == "/ip/service" else None
            values = {**entry.values, "port": row["port"]} if chosen == entry.values.get("port", "") else entry.values
            yield from self._set(menu, values, row)
        if menu.path == "/interface/bridge":
            yield from self._factory_bridge(menu, entries, factory)
        for entry in entries:
            if self._is_added(menu, entry, factory):
                yield ["add", *self._changed(menu, entry.values, self._filled_in(menu, {}))]

    def _set(self, menu: Menu, values: Row, factory: Row) -> Iterator[list[str]]:
        """What was changed of a row that the board brings along."""
        if menu.path == "/interface" and values.get("type") != "wlan":
            return  # shown, and written, in the menu of its kind
        changed = self._changed(menu, values, self._filled_in(menu, factory))
        name = factory["name"]
        by_default = "default-name" in factory
        chosen = ["[", "find", f"{'default-' * by_default}name={quoted(name)}", "]"]
        if changed:
            yield ["set", *([name] if menu.path in _BY_NAME else chosen), *changed]

    def _factory_bridge(self, menu: Menu, entries: list[Entry], factory: list[Row]) -> Iterator[list[str]]:
        """The bridge of this router is there from the start, but may be removed."""
        for row in factory:
            found = [entry for entry in entries if entry.values["name"] == row["name"]]
            if found:
                yield from self._set(menu, found[0].values, row)
            else:
                yield ["remove", "[", "find", f"name={quoted(row['name'])}", "]"]

    @staticmethod
    def _is_added(menu: Menu, entry: Entry, factory: list[Row]) -> bool:
        if entry.dynamic or entry.builtin or "add" not in menu.commands:
            return False
        return menu.path != "/interface/bridge" or entry.values["name"] not in {row["name"] for row in factory}

    def _changed(self, menu: Menu, values: Row, known: Row) -> list[str]:
        """``name=value`` for each property that must be written, by name; ``known`` is what is there without it."""
        found = []
        for name, kind in sorted(menu.fields.items()):
            value = values.get(name, "")
            if name in menu.secret or (name in menu.sensitive and not self._secrets):
                continue
            flag = kind.name == "flag"
            usual = known.get(name, self._filled_in(menu, values, without=name).get(name, "false" if flag else ""))
            bare = name in BARE_FLAGS.get(menu.path, ())
            must = name in values and (name in _ALWAYS or (self._verbose and not bare))
            differs = value != usual and (name in values or value != "")
            if differs or must:
                shown = {"true": "yes", "false": "no"}[value or "false"] if flag else quoted(value)
                found.append(name if bare else f"{name}={shown}")
        return found

    def _filled_in(self, menu: Menu, given: Row, without: str = "") -> Row:
        """What RouterOS makes of given values by itself."""
        kept = {name: value for name, value in given.items() if name != without}
        try:
            return derived_values(self._store.version, menu.path, {**menu.defaults, **kept})
        except KeyError:  # a property that others follow from
            return {**menu.defaults, **kept}


def _place(path: str) -> tuple[int, str]:
    return (_FIRST.index(path) if path in _FIRST else len(_FIRST), path)


def _wrapped(words: list[str]) -> Iterator[str]:
    """One command on lines of a console's width, joined by backslashes."""
    line = words[0]
    for word in map(_breakable, words[1:]):
        if len(line) + 1 + len(word) <= LINE_MAX - 2:
            line += f" {word}"
        else:
            yield f"{line} \\"
            line = f"    {word}"
        while len(line) > LINE_MAX - 2:  # room for " \\" where another property follows
            end = _cut(line)
            yield line[:end] + "\\"
            # A blank at the beginning of a line would be taken for its indentation.
            line = "    " + ("\\_" + line[end + 1 :] if line[end] == " " else line[end:])
    yield line


def _breakable(word: str) -> str:
    """A property too long for a line has quotes, for only between them may it be broken."""
    key, sign, value = word.partition("=")
    return word if len(word) <= LINE_MAX - 6 or value.startswith('"') else f'{key}{sign}"{value}"'


def _cut(line: str) -> int:
    """Where a line that is too long may be broken: not within an escape."""
    end = LINE_MAX - 3
    for start in range(end - 1, end - 4, -1):
        before = len(line[:start]) - len(line[:start].rstrip("\\"))
        if line[start] == "\\" and before % 2 == 0:
            return start
    return end
