"""``/user/ssh-keys``: the public keys by which users log in over SSH (MikroTik manual, "User", "SSH Keys").

A user who has one logs in by password no more, unless ``/ip/ssh always-allow-password-login`` is set, which it is not
here. The file that a key was imported from is gone afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from hil.virtual.routeros.access import Caller
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.engine import Answer, Engine
    from hil.virtual.routeros.files import Files
    from hil.virtual.routeros.store import Store

SSH_KEYS: Final = "/user/ssh-keys"


class SshKeys:
    """Imports keys into the rows of the menu."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._store = engine.store
        self._files = files

    async def import_file(self, values: Row, caller: Caller) -> AsyncIterator[Answer]:
        """``/user/ssh-keys/import``."""
        name, user = values["public-key-file"], values.get("user", caller.user)
        data = self._files.read(name)
        if data is None:
            raise Trap("failure: file does not exist")
        if user not in self._store.names("/user"):
            raise Trap("input does not match any value of user")
        try:
            load_ssh_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            raise Trap("unable to load key file (wrong format or bad passphrase)!") from None
        kind, key, *owner = data.decode("utf-8", "replace").split()
        row = {"user": user, "key": f"{kind} {key}", "key-owner": " ".join(owner)}
        menu = self._store.menus[SSH_KEYS]
        await self._engine.write_rows(menu, lambda: self._store.add(menu, row))
        await self._files.remove(name)
        yield "done", {}


def keys_of(store: Store, user: str) -> list[str]:
    """The keys of a user, each as ``ssh-rsa AAAA...``."""
    return [row["key"] for row in store.rows(SSH_KEYS) if row["user"] == user]
