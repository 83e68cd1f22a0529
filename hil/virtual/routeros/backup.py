"""``/system/backup``: the whole configuration, users and keys included, as one file, and back (manual, "Backup").

Files and what a reboot forgets are not part of it. With a password it can be neither read nor restored without it; both
kinds begin with the four bytes that RouterOS' own do. What is inside is this program's own: JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet, InvalidToken

from hil.virtual.routeros.access import Caller
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.engine import Answer
    from hil.virtual.routeros.files import Files
    from hil.virtual.routeros.store import Store

PLAIN: Final = bytes.fromhex("88ACA1B1")
ENCRYPTED: Final = bytes.fromhex("EFA89172")
_ROUNDS: Final = 1000  # a bench's secret is worth no more
_SALT: Final = b"virtual router"


class Backups:
    """Saves and restores."""

    def __init__(self, store: Store, files: Files, reboot: Callable[[Callable[[], None]], None]) -> None:
        """``reboot`` cuts the power, does what it is given while the router is off, and starts it again."""
        self._store = store
        self._files = files
        self._reboot = reboot

    async def save(self, values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        """``/system/backup/save``."""
        data = json.dumps({"version": self._store.version, **self._store.dump()}).encode()
        password = values.get("password", "")
        body = ENCRYPTED + _cipher(password).encrypt(data) if password else PLAIN + data
        await self._files.write(
            _with_ending(values.get("name") or self._store.single("/system/identity")["name"]), body
        )
        self._store.append_log("system,info", "configuration backup saved")
        yield "done", {"ret": "Configuration backup saved"}

    async def load(self, values: Row, caller: Caller) -> AsyncIterator[Answer]:
        """``/system/backup/load``; the answer may be lost, as the power goes at once."""
        body = self._files.read(_with_ending(values["name"]))
        if body is None:
            raise Trap("failure: no such backup file")
        saved = _opened(body, values.get("password", ""))
        if saved["version"] != self._store.version:
            raise Trap("failure: backup is of another version")
        self._store.append_log("system,info", f"configuration restored by {caller.user}")
        self._reboot(lambda: self._store.load_dump(saved))
        yield "done", {"ret": "System configuration restored, rebooting now"}


def _opened(body: bytes, password: str) -> dict[str, object]:
    kind, data = body[:4], body[4:]
    try:
        if kind == ENCRYPTED:
            data = _cipher(password).decrypt(data)
        elif kind != PLAIN:
            raise Trap("failure: not a backup file")
        saved: dict[str, object] = json.loads(data)
    except InvalidToken:
        raise Trap("failure: bad password for backup file") from None
    except ValueError:
        raise Trap("failure: backup file is damaged") from None
    return saved


def _cipher(password: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.pbkdf2_hmac("sha256", password.encode(), _SALT, _ROUNDS)))


def _with_ending(name: str) -> str:
    return name if name.endswith(".backup") else f"{name}.backup"
