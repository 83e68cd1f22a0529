"""The router's owner over SSH: a command line at a time, and files by SFTP. The only importer of paramiko.

Needed to bring an agent's access into a router, and to take it away again; the daemon never loads it. RouterOS tells by
text alone how a command went: its exit status is 0 whatever happened.

Version 6 may sign with SHA-1 only (``ssh-rsa``), which paramiko 5 no longer speaks; 4 prefers SHA-2 (RFC 8332) wherever
the router knows it. A forged signature would need a second preimage, and the key itself is confirmed and pinned.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import paramiko
from paramiko.pkey import UnknownKeyType as UnsupportedKey

from edgeagent.routeros.errors import RouterLoginRefused, RouterProtocolError, RouterUnreachable

REPLY_MAX_BYTES = 1024 * 1024
FILE_MAX_BYTES = 64 * 1024 * 1024
CONNECT_S = 15.0
RSA_SHA2 = ("rsa-sha2-512", "rsa-sha2-256")
SILENCE_S = 90.0  # a board with a 600 MHz processor and a worn flash writes its backup meanwhile

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what goes wrong is raised; its thread must not print


class Key:
    """A private key that was read."""

    def __init__(self, key: paramiko.PKey) -> None:
        self.held = key


class KeyUnusable(ValueError):
    """The file holds no private key that can be used. ``encrypted``: a passphrase is wanted, or another one."""

    def __init__(self, path: str, why: str, *, encrypted: bool) -> None:
        super().__init__(f"{path}: {why}")
        self.encrypted = encrypted


class Connection:
    """One SSH connection. Errors are those of routeros/errors.py; after any the connection may be closed."""

    def __init__(self, transport: paramiko.Transport, peer: str) -> None:
        self._transport = transport
        self._peer = peer
        self._sftp: paramiko.SFTPClient | None = None

    @classmethod
    def open(cls, address: str, port: int, source: str, pinned: str | None) -> Self:
        """Connect from ``source`` and exchange keys; nobody is logged in yet. ``pinned``: the line of a host key, whose
        kind alone is then agreed to. All addresses are literal. Raises RouterUnreachable, RouterProtocolError.
        """
        peer = f"{address} port {port}"
        try:
            sock = socket.create_connection((address, port), CONNECT_S, (source, 0))
        except OSError as error:
            raise RouterUnreachable(f"no SSH connection from {source} to {peer}: {error.strerror or error}") from error
        transport = paramiko.Transport(sock)
        transport.banner_timeout = transport.auth_timeout = CONNECT_S
        try:
            if pinned is not None:
                kind = pinned.partition(" ")[0]
                kinds = (*RSA_SHA2, kind) if kind == "ssh-rsa" else (kind,)
                transport.get_security_options().key_types = kinds
            transport.start_client(timeout=CONNECT_S)
            if transport.host_key_type == "ssh-rsa":  # nor would it take a login signed with what it does not know
                transport.disabled_algorithms = {"pubkeys": RSA_SHA2}
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:  # ValueError: no such kind of key
            transport.close()
            raise RouterProtocolError(f"no agreement with the SSH server at {peer}: {error or 'it hung up'}") from error
        return cls(transport, peer)

    @property
    def host_key(self) -> str:
        """The key that the router showed, as known_hosts has it: ``ssh-rsa AAAA...``."""
        key = self._transport.get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"

    def login(self, user: str, secret: str | Key) -> None:
        """Log in by password or key (:func:`read_key`). Raises RouterLoginRefused, RouterUnreachable."""
        try:
            if isinstance(secret, str):
                self._transport.auth_password(user, secret)
            else:
                self._transport.auth_publickey(user, secret.held)
        except paramiko.AuthenticationException as error:
            raise RouterLoginRefused(f"the SSH server at {self._peer} refused the user {user!r}") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise RouterUnreachable(f"the SSH connection to {self._peer} broke at the login: {error}") from error

    def run(self, line: str) -> str:
        """Give one command line; what it prints, line ends as ``\\n``, none at the end."""
        with self._broken(line.partition("=")[0]):  # the words before the first value: they hold none
            channel = self._transport.open_session(timeout=CONNECT_S)
            try:
                channel.settimeout(SILENCE_S)
                channel.exec_command(line)
                found = bytearray()
                while data := channel.recv(65536):
                    found += data
                    if len(found) > REPLY_MAX_BYTES:
                        raise RouterProtocolError(f"the router printed more than {REPLY_MAX_BYTES} bytes")
            finally:
                channel.close()
        return found.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")

    def files(self) -> list[str]:
        """The names of the files in the router's root."""
        with self._broken("reading the list of files"):
            names: list[str] = self._files().listdir()
        return names

    def put(self, name: str, content: bytes) -> None:
        """Write a file; a router whose disk is full says no more than that the file is not there."""
        with self._broken(f"writing the file {name}"):
            self._files().putfo(io.BytesIO(content), name)

    def get(self, name: str) -> bytes:
        """The contents of a file, all that the router says it has."""
        found = io.BytesIO()
        with self._broken(f"reading the file {name}"):
            size = self._files().stat(name).st_size or 0
            if size <= FILE_MAX_BYTES:
                self._files().getfo(name, found)
        if found.tell() != size:
            raise RouterProtocolError(f"the router's file {name} has {size} bytes, of which {found.tell()} were taken")
        return found.getvalue()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._broken(f"removing the file {name}"), contextlib.suppress(FileNotFoundError):
            self._files().remove(name)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _files(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            channel = self._transport.open_session(timeout=CONNECT_S)
            channel.settimeout(SILENCE_S)
            channel.invoke_subsystem("sftp")
            self._sftp = paramiko.SFTPClient(channel)
        return self._sftp

    @contextmanager
    def _broken(self, doing: str) -> Iterator[None]:
        """Raise what goes wrong inside as an error of ours."""
        try:
            yield
        except RouterProtocolError:
            raise
        except (paramiko.SSHException, OSError, EOFError) as error:
            why = str(error) or type(error).__name__
            said = f"{doing}: the router {self._peer} did not do it to the end ({why})"
            raise RouterUnreachable(said, maybe_done=True) from error


def fingerprint(host_key: str) -> str:
    """``SHA256:...`` of a host key's line, as OpenSSH shows it."""
    digest = hashlib.sha256(base64.b64decode(host_key.split(" ")[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def read_key(path: str, passphrase: str | None) -> Key:
    """A private key as OpenSSH writes it. Raises KeyUnusable; OSError where there is no such file."""
    try:
        return Key(paramiko.PKey.from_path(path, None if passphrase is None else passphrase.encode()))
    except (TypeError, paramiko.PasswordRequiredException):  # TypeError: cryptography's word for a missing passphrase
        raise KeyUnusable(path, "it is encrypted", encrypted=True) from None
    except (ValueError, UnsupportedKey, paramiko.SSHException) as error:
        raise KeyUnusable(path, str(error) or "no key that can be read", encrypted=False) from None
