"""SFTP onto the files of the router (MikroTik manual, "Files"): wants ``ftp``, and ``read`` or ``write``.

Arguments that are not used are asyncssh's.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import asyncssh

from hil.virtual.routeros.plane import Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.access import Caller
    from hil.virtual.routeros.files import Files


class _Open:
    """A file that is being read or written; what was written counts when it is closed, or the disk is full."""

    def __init__(self, name: str, data: bytearray, *, write: bool, append: bool) -> None:
        self.name = name
        self.data = data
        self.write = write
        self.append = append


class Sftp(asyncssh.SFTPServer):
    """Files by their names in /file: ``a.rsc``, ``flash/a.rsc``; there are no other folders."""

    def __init__(
        self,
        channel: asyncssh.SSHServerChannel[bytes],
        files: Files,
        caller_of: Callable[[], Caller],
        run_at_once: Callable[[str, Caller], Awaitable[None]],
        note: Callable[[str, str], None],
    ) -> None:
        super().__init__(channel)
        self._files = files
        self._caller_of = caller_of
        self._run_at_once = run_at_once
        self._note = note

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> _Open:  # noqa: ARG002
        """Open a file; a new one is only there once it is closed."""
        write = bool(pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND))
        self._require("write" if write else "read")
        name = _name(path)
        data = self._files.read(name)
        if self._files.is_folder(name):
            raise asyncssh.SFTPFailure("a folder")
        if data is None and not pflags & asyncssh.FXF_CREAT:
            raise asyncssh.SFTPNoSuchFile("no such file")
        if write and not self._files.is_folder(name.rpartition("/")[0]):
            raise asyncssh.SFTPNoSuchFile("no such folder")
        kept = b"" if data is None or pflags & asyncssh.FXF_TRUNC else data
        return _Open(name, bytearray(kept), write=write, append=bool(pflags & asyncssh.FXF_APPEND))

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Some bytes, none at the end."""
        assert isinstance(file_obj, _Open)
        return bytes(file_obj.data[offset : offset + size])

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Keep bytes until the file is closed; refused as soon as they could not be stored."""
        assert isinstance(file_obj, _Open)
        self._require("write")
        if file_obj.append:
            offset = len(file_obj.data)
        before = self._files.read(file_obj.name) or b""
        if max(len(file_obj.data), offset + len(data)) > self._files.free_bytes() + len(before):
            file_obj.write = False
            raise asyncssh.SFTPFailure("no space left on device")
        file_obj.data.extend(bytes(max(0, offset - len(file_obj.data))))
        file_obj.data[offset : offset + len(data)] = data
        return len(data)

    async def close(self, file_obj: object) -> None:
        """Store what was written; ``*.auto.rsc`` runs at once."""
        assert isinstance(file_obj, _Open)
        if not file_obj.write:
            return
        await self._store(self._files.write(file_obj.name, bytes(file_obj.data)))
        self._note("written", file_obj.name)
        if file_obj.name.endswith(".auto.rsc"):
            await self._run_at_once(file_obj.name, self._caller_of())

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """The files in a folder."""
        self._require("read")
        folder = _name(path)
        if not self._files.is_folder(folder):
            raise asyncssh.SFTPNoSuchFile("no such folder")
        for name in [".", ".."]:
            yield asyncssh.SFTPName(name.encode(), attrs=_attributes(None))
        for name in self._files.names():
            if name.rpartition("/")[0] == folder:
                yield asyncssh.SFTPName(name.rpartition("/")[2].encode(), attrs=self._stat(name))

    async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Size and kind of a file."""
        self._require("read")
        return self._stat(_name(path))

    async def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """The same: there are no links."""
        return await self.stat(path)

    async def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """Size of an open file."""
        assert isinstance(file_obj, _Open)
        return _attributes(len(file_obj.data))

    async def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._require("write")
        if self._files.read(_name(path)) is None:
            raise asyncssh.SFTPNoSuchFile("no such file")
        await self._store(self._files.remove(_name(path)))
        self._note("removed", _name(path))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Give a file another name."""
        self._require("write")
        if self._files.read(_name(oldpath)) is None:
            raise asyncssh.SFTPNoSuchFile("no such file")
        await self._store(self._files.rename(_name(oldpath), _name(newpath)))
        self._note("renamed", _name(newpath))

    async def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:  # noqa: ARG002
        """Refused: this router has the folders it came with."""
        raise asyncssh.SFTPPermissionDenied("permission denied")

    async def rmdir(self, path: bytes) -> None:  # noqa: ARG002
        """Refused, likewise."""
        raise asyncssh.SFTPPermissionDenied("permission denied")

    async def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Modes and times are not kept; asking for them is no error."""

    async def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Likewise."""

    def realpath(self, path: bytes) -> bytes:
        """Names count from the root."""
        return b"/" + _name(path).encode()

    def _require(self, policy: str) -> None:
        try:
            self._caller_of().require("ftp", policy)
        except Trap as trap:
            raise asyncssh.SFTPPermissionDenied(trap.message) from None

    def _stat(self, name: str) -> asyncssh.SFTPAttrs:
        data = self._files.read(name)
        if data is None and not self._files.is_folder(name):
            raise asyncssh.SFTPNoSuchFile("no such file")
        return _attributes(None if data is None else len(data))

    @staticmethod
    async def _store(work: Awaitable[None]) -> None:
        try:
            await work
        except Trap as trap:
            raise asyncssh.SFTPFailure(trap.message) from None


def _name(path: bytes) -> str:
    """A path as a name in /file: ``/flash/a.rsc`` is ``flash/a.rsc``."""
    return posixpath.normpath("/" + path.decode("utf-8", "surrogateescape")).strip("/")


def _attributes(size: int | None) -> asyncssh.SFTPAttrs:
    """Of a file of this size, or of a folder."""
    mode = stat.S_IFDIR | 0o755 if size is None else stat.S_IFREG | 0o644
    return asyncssh.SFTPAttrs(size=size or 0, permissions=mode)
