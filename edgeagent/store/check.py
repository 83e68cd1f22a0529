"""Whether this version can use a store: tried on a copy, for an installer to ask before it upgrades."""

import shutil
from pathlib import Path

import msgspec

from edgeagent.store import migrations
from edgeagent.store.database import Database
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.file import known_format
from edgeagent.store.records import Checked

PAGE = 1000


def check(path: Path) -> Checked:
    """Copy the store into a folder beside it, migrate the copy, read all of it; the original is not touched, and may
    be in use. Raises StoreUnavailable: "newer", "foreign" and "corrupt" are said of the file, the others of the disk.
    """
    original = Database(path)
    folder = path.with_name(f"{path.name}.check")
    with original.reasons():
        shutil.rmtree(folder, ignore_errors=True)  # of a check that was cut off
        found = known_format(path)
        folder.mkdir(mode=0o700)
    try:
        with original.reasons():
            migrations.copy(path, folder / path.name)
        return _read(Database(folder / path.name), found)
    except StoreUnavailable as error:
        raise StoreUnavailable(error.reason, str(path), error.detail) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(copy: Database, found: int) -> Checked:
    try:
        opening = copy.open()
        if opening.set_aside is not None:
            raise StoreUnavailable("corrupt", "")
        lines = last = 0
        while page := copy.journal_after(last, PAGE):
            for entry in page:
                msgspec.json.decode(entry.data)
            lines, last = lines + len(page), page[-1].seq
        waiting = copy.outbox_queued(limit=-1)  # SQLite: no limit
        for message in waiting:
            msgspec.json.decode(message.payload)
        copy.outbox_sent(limit=-1)
        copy.load_snapshot()
    except msgspec.DecodeError as error:
        raise StoreUnavailable("corrupt", "", str(error)) from error
    finally:
        copy.close()
    return Checked(found, lines, len(waiting))
