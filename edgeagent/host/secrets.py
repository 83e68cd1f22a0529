"""Passwords, from where systemd handed them over or from the file that site.toml names. They are never printed.

``LoadCredential=router.password:/etc/edgeagent/router.password`` in the unit makes systemd, as root, put a copy into
``$CREDENTIALS_DIRECTORY/router.password`` (systemd.exec(5), "Credentials"), which only this service can read. The file
itself then belongs to root alone. Whoever starts the agent or a command by hand reads the file itself.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edgeagent.host import clock

SECRET_MAX_BYTES = 4096
RESTART = "sudo systemctl restart edgeagent"


def read(path: str) -> str:
    """The secret that site.toml calls ``path``; a line end after it is none of it.

    What is put into the file while the service runs it cannot see, and the error then says so.
    Raises OSError (with ``filename`` and ``strerror``, the secret in neither) where there is none. An empty credential
    counts as none: the unit falls back to it where the file is missing, so that a missing mail password does not keep
    the agent from starting.
    """
    handed = os.environ.get("CREDENTIALS_DIRECTORY", "")
    credential = Path(handed) / Path(path).name
    found = _text(credential) if handed and credential.exists() else ""
    try:
        found = found or _text(Path(path))
    except PermissionError:
        if not handed:
            raise
        raise OSError(errno.EACCES, _not_handed(credential), path) from None
    if not found:
        raise OSError(errno.ENODATA, "it is empty; expected a password in one line", path)
    return found


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Whole and on the disk under its name, or not at all; it belongs to whom the folder belongs to. Raises OSError.

    A file that was there keeps neither its mode nor its owner: who may read the new one is decided here.
    """
    draft = path.with_name(f".{path.name}.{clock.token(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)  # whatever the umask
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(handle, owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _not_handed(credential: Path) -> str:
    """Why a service that may not read the file was not handed it either, and what to do."""
    if credential.exists():
        return (
            "it was missing or empty when the service started, and systemd hands it over only then; expected a "
            f"password in one line, and then {RESTART}"
        )
    return (
        f"it is not handed over by systemd; expected a LoadCredential of the name {credential.name} in systemctl edit "
        f"edgeagent (see docs/install.md), and then {RESTART}"
    )


def _text(place: Path) -> str:
    with place.open("rb") as file:
        raw = file.read(SECRET_MAX_BYTES + 1)
    if len(raw) > SECRET_MAX_BYTES:
        raise OSError(
            errno.EFBIG, f"it is longer than {SECRET_MAX_BYTES} bytes; expected a password in one line", str(place)
        )
    try:
        return raw.decode().strip()
    except UnicodeDecodeError:
        # Without its cause, which quotes the bytes: a traceback must not show them (clause X4).
        raise OSError(errno.EILSEQ, "it is not UTF-8; expected a password in one line", str(place)) from None
