"""site.toml of an older format, rewritten to the current one: numbered steps forward, comments and layout kept.

There has been one format so far, so the product has no step yet. A step changes the document in place; ``format`` is
set for it. Adding one means: append it to MIGRATIONS and raise FORMAT in site.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from msgspec import Struct
from tomlkit.exceptions import TOMLKitError

from edgeagent.config import document, site
from edgeagent.config.document import ConfigError
from edgeagent.config.reader import Found, Problem, shown

Step = Callable[[tomlkit.TOMLDocument], None]
MIGRATIONS: tuple[Step, ...] = ()  # the first leads from format 1 to 2, and so on

_STEP_FAILS = (TOMLKitError, LookupError, TypeError, ValueError, AttributeError)  # the old file is not as it should be


class Difference(Struct, frozen=True):
    """A key that a migration added, took away or changed; None where the key is absent. Values as for a message."""

    key: str
    before: str | None
    after: str | None


class Migrated(Struct, frozen=True):
    """What was done. ``copy`` is the old file; None, and no differences, where there was nothing to do."""

    before: int
    after: int
    copy: Path | None = None
    differences: tuple[Difference, ...] = ()


def migrate(path: Path, steps: Sequence[Step] = MIGRATIONS) -> Migrated:
    """Rewrite ``path`` to format ``1 + len(steps)`` by all steps that it still needs.

    The old file is copied beside it first, as ``NAME.format-N``. The new one is checked before it takes the old one's
    place, whole or not at all. Raises :class:`ConfigError`: then the file has not changed.
    """
    path = path.resolve()  # a link stays a link
    current = 1 + len(steps)
    raw = document.read(path)
    before = document.table(raw, str(path))
    since = _format(before, current, str(path))
    if since == current:
        return Migrated(current, current)
    text = _stepped(raw.decode(), since, steps, str(path)).encode()
    try:
        copy = _replace(path, raw, text, since, current)
    except OSError as error:
        expected = "a folder that can be written to: run it as root, and see that the disk is not full or read-only"
        raise ConfigError(str(path), [Problem("", (error.strerror or "an error").lower(), expected)]) from error
    return Migrated(since, current, copy, tuple(_differences(before, document.table(text, str(path)))))


def _format(table: dict[str, Found], current: int, where: str) -> int:
    found = table.get("format")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ConfigError(where, [Problem("format", shown("", found), f"a whole number from 1 to {current}")])
    if found > current:
        expected = (
            f"at most {current}: install the newer version that wrote it, or put back its copy site.toml.format-N"
        )
        raise ConfigError(where, [Problem("format", shown("", found), expected)])
    return found


def _stepped(text: str, since: int, steps: Sequence[Step], where: str) -> str:
    number = since
    try:
        tree = tomlkit.parse(text)
        for number, step in enumerate(steps[since - 1 :], since):
            step(tree)
            tree["format"] = number + 1
        return tomlkit.dumps(tree)
    except (*_STEP_FAILS, RecursionError) as error:
        why = f"what cannot become format {number + 1} ({type(error).__name__})"
        expected = f"a good file of format {number}: correct it with the version that reads that format"
        raise ConfigError(where, [Problem("format", why, expected)]) from error


def _replace(path: Path, raw: bytes, text: bytes, since: int, current: int) -> Path:
    """Put ``text`` in the place of ``raw``, in one rename, if it is good; returns the copy of the old file."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a run that was cut off
    try:
        _write(new, text, path)
        site.load(new, current)
        copy = _copy(path, raw, since)
        new.rename(path)
    except ConfigError as error:
        raise ConfigError(f"{path}, once migrated to format {current}", error.problems) from error
    finally:
        new.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return copy


def _copy(path: Path, raw: bytes, since: int) -> Path:
    """The old file beside itself. An earlier copy is kept; one that is the same serves."""
    first = path.with_name(f"{path.name}.format-{since}")
    number, copy = 1, first
    while copy.exists():
        if copy.read_bytes() == raw:
            return copy
        number += 1
        copy = first.with_name(f"{first.name}.{number}")
    _write(copy, raw, path)
    _sync_folder(path.parent)
    return copy


def _write(path: Path, raw: bytes, like: Path) -> None:
    """A new file on the disk, with the mode and the owner of ``like``; none is left where that cannot be."""
    status = like.stat()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o7777)
            file.write(raw)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differences(before: Any, after: Any) -> list[Difference]:
    old, new = _flat(before), _flat(after)
    keys = [*old, *(key for key in new if key not in old)]
    return [Difference(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _flat(table: dict[str, Found], where: str = "") -> dict[str, str]:
    """Every value by its dotted key, as it may be shown."""
    flat: dict[str, str] = {}
    for key, value in table.items():
        name = f"{where}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: shown(name, value)}
    return flat
