"""The files of the router: rows of ``/file`` that hold their contents, and the space there is for them.

A file's bytes are kept as the text ``contents`` of its row (undecodable bytes as surrogates), so that the API, the
console and SFTP see one and the same thing. On boards with little memory the root is a RAM disk, and what shall outlive
a reboot must lie under ``flash/`` (MikroTik manual, "Files").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.values import Version

if TYPE_CHECKING:
    from hil.virtual.routeros.engine import Engine

FILE: Final = "/file"
FLASH: Final = "flash"
FULL: Final = "failure: not enough space on disk"
# Up to this size ``contents`` is shown and may be set: 6 by MikroTik's wiki ("Manual:System/File"), 7 as measured.
CONTENTS_MAX: Final[Mapping[Version, int]] = {"6.49": 4095, "7.22": 61_440}
_TYPES: Final = {"rsc": "script", "backup": "backup", "npk": "package"}


def to_text(data: bytes) -> str:
    """The bytes of a file as the text of its row."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The text of a row as the bytes of its file."""
    return text.encode("utf-8", "surrogateescape")


def described(values: Row) -> Row:
    """The values of a file's row with its type and size."""
    if values.get("type") == "disk":
        return values
    _name, dot, ending = values["name"].rpartition("/")[2].rpartition(".")
    kind = _TYPES.get(ending, f".{ending} file") if dot else "file"
    return {"contents": "", **values, "type": kind, "size": str(len(to_bytes(values.get("contents", ""))))}


def shown(version: Version, row: Row) -> Row:
    """A file's row as it is printed: contents only of a small text."""
    data = to_bytes(row.get("contents", ""))
    if len(data) <= CONTENTS_MAX[version] and b"\0" not in data:
        return row
    return {name: value for name, value in row.items() if name != "contents"}


def check_contents(version: Version, values: Row) -> None:
    """Refuse contents that a sentence may not carry."""
    if len(to_bytes(values.get("contents", ""))) > CONTENTS_MAX[version]:
        raise Trap("failure: contents too long")


class Files:
    """Reads and writes files for the parts of the router that do it outside the menu: SFTP, export, backup."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store

    def free_bytes(self) -> int:
        """The space left."""
        return self._store.free_bytes()

    def names(self) -> list[str]:
        """All files and folders, in order of age."""
        return [row["name"] for row in self._store.rows(FILE)]

    def is_folder(self, name: str) -> bool:
        """Whether this is the root or a folder."""
        return name == "" or any(row["name"] == name and row.get("type") == "disk" for row in self._store.rows(FILE))

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none."""
        entries = [entry for entry in self._store.entries(FILE) if entry.values["name"] == name]
        if not entries or entries[0].values.get("type") == "disk":
            return None
        return to_bytes(entries[0].values["contents"])

    async def write(self, name: str, data: bytes) -> None:
        """Make or replace a file; raises Trap where the disk is full or the folder does not exist."""
        folder = name.rpartition("/")[0]
        if not self.is_folder(folder) or self.is_folder(name):
            raise Trap("failure: no such folder")
        menu, values = self._store.menus[FILE], {"contents": to_text(data)}
        if name in self.names():
            await self._engine.write_rows(menu, lambda: self._store.set(menu, [name], values))
        else:
            await self._engine.write_rows(menu, lambda: self._store.add(menu, {"name": name, **values}))

    async def remove(self, name: str) -> None:
        """Remove a file; raises Trap where there is none."""
        menu = self._store.menus[FILE]
        await self._engine.write_rows(menu, lambda: self._store.remove(menu, [name]))

    async def rename(self, name: str, other: str) -> None:
        """Give a file another name; raises Trap where that is taken."""
        menu = self._store.menus[FILE]
        await self._engine.write_rows(menu, lambda: self._store.set(menu, [name], {"name": other}))
