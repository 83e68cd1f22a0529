"""The router's SSH service: a command line per channel, and SFTP onto its files (MikroTik manual, "SSH", "Files").

As RouterOS does it: a login wants the policy ``ssh`` and an address the user may come from; the exit status is 0
whatever happened, and what went wrong stands in the text. There is no interactive console.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import asyncssh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hil.virtual.routeros.access import Caller, LoginError, ends, service_allows
from hil.virtual.routeros.console import Console
from hil.virtual.routeros.events import masked_line
from hil.virtual.routeros.files import Files
from hil.virtual.routeros.sftp import Sftp
from hil.virtual.routeros.ssh_keys import keys_of
from hil.virtual.routeros.store import SERVICE_MENU

if TYPE_CHECKING:
    from hil.virtual.routeros.server import Router

SERVICE: Final = "ssh"
LOGIN_S: Final = 30.0
# What a version 6 signs with is not known for sure. This is the least that any was reported to know; who gets on with
# that gets on with more.
OLD_HOST_KEYS: Final = [b"ssh-rsa"]
OLD: Final[dict[str, Any]] = {"encryption_algs": ["aes128-ctr"], "mac_algs": ["hmac-sha1"]}


def make_host_key() -> bytes:
    """A key of the kind a router makes at its first boot (RSA, 2048 bits), as OpenSSH writes it."""
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


class SshService:
    """Serves SSH for one router; its host key outlives reboots."""

    def __init__(self, router: Router, console: Console, files: Files, host_key: bytes | None) -> None:
        self.router = router
        self.console = console
        self.files = files
        self.connections: set[_Connection] = set()
        self.work: set[asyncio.Task[Any]] = set()
        """Answers under way, and the command lines that they wait for."""
        self._host_key = asyncssh.import_private_key(host_key or make_host_key())
        self._acceptor: asyncssh.SSHAcceptor | None = None

    @property
    def host_key(self) -> str:
        """The public host key, as a known_hosts file has it: ``ssh-rsa AAAA...``."""
        return self._host_key.export_public_key("openssh").decode().strip()

    async def start(self, address: str, port: int) -> int:
        """Listen; the port."""
        old = self.router.store.version.startswith("6")
        [pair] = asyncssh.load_keypairs([self._host_key])
        if old:
            pair.host_key_algorithms = OLD_HOST_KEYS
        self._acceptor = await asyncssh.listen(
            address,
            port,
            server_factory=lambda: _Connection(self),
            server_host_keys=[pair],
            process_factory=self._serve_command,
            sftp_factory=self._sftp,
            login_timeout=LOGIN_S,
            encoding="utf-8",
            errors="surrogateescape",
            allow_scp=False,
            server_version="ROSSSH",
            **(OLD if old else {}),
        )
        found: int = self._acceptor.get_port()
        return found

    async def stop(self) -> None:
        """Stop listening and cut every connection, as a reboot does."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        for connection in list(self.connections):
            connection.abort()
        for task in list(self.work):
            task.cancel()
        if self.work:
            await asyncio.wait(self.work)

    def caller(self, user: str) -> Caller:
        """What a user may do at this moment."""
        return self.router.access.caller(user)

    async def _serve_command(self, process: asyncssh.SSHServerProcess[str]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.work.add(task)
        try:
            await self._answer(process)
        except (OSError, asyncssh.Error):
            pass  # the client left
        except Exception as error:  # noqa: BLE001  a defect of this program, which the bench must hear of
            self.router.failed(error)
            process.exit(1)
        finally:
            self.work.discard(task)

    async def _answer(self, process: asyncssh.SSHServerProcess[str]) -> None:
        user = _login_name(process.get_extra_info("username"))
        if process.command is None:
            process.stdout.write("the virtual router has no interactive console; give a command\r\n")
            process.exit(0)
            return
        line = process.command
        self.router.log.write("ssh_command", user=user, line=masked_line(line))
        faults = self.router.misbehaviour.strike((line.split(" ")[0], line), user)
        if "hang" in faults:
            await asyncio.Event().wait()
        if (slow := faults.get("slow")) is not None:
            await asyncio.sleep(slow.delay_s)
        text = "" if "drop" in faults else await self._executed(line, user)
        self.router.log.write("ssh_reply", user=user, lines=text.count("\n"), faults=sorted(faults))
        if faults.keys() & {"drop", "drop_after"}:
            process.get_extra_info("connection").abort()
            return
        if "mute" in faults:
            await asyncio.Event().wait()
        process.stdout.write(text)
        process.exit(0)

    async def _executed(self, line: str, user: str) -> str:
        """What a line gives. It is done to the end even where the client goes away meanwhile, unless the power goes."""
        done = asyncio.create_task(self.console.run(line, lambda: self.caller(user)))
        self.work.add(done)
        done.add_done_callback(self.work.discard)
        return await asyncio.shield(done)

    def _sftp(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        user = _login_name(channel.get_extra_info("username"))

        def note(what: str, name: str) -> None:
            self.router.log.write("sftp", user=user, what=what, name=name)

        return Sftp(channel, self.files, lambda: self.caller(user), self.console.auto_import, note)


class _Connection(asyncssh.SSHServer):
    """One connection from its first byte to its end."""

    def __init__(self, service: SshService) -> None:
        self._service = service
        self._router = service.router
        self._connection: asyncssh.SSHServerConnection | None = None
        self._peer = ""
        self._user = ""
        self._session: tuple[str, str] | None = None
        self._shown: str | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Refuse who may not even knock."""
        self._connection = conn
        self._peer = str(conn.get_extra_info("peername")[0])
        store = self._router.store
        row = store.row(SERVICE_MENU, store.service(SERVICE))
        if not service_allows(row, self._peer) or len(self._service.connections) >= int(row.get("max-sessions", "20")):
            self._router.log.write("session_refused", service=SERVICE, peer=self._peer)
            conn.abort()
            return
        self._service.connections.add(self)
        self._shown = store.open_connection(SERVICE, *ends(conn))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._service.connections.discard(self)
        self._router.store.close_connection(self._shown)
        if self._session is not None:
            user, row = self._session
            self._router.access.closed(SERVICE, user, self._peer, row)
            self._router.log.write("ssh_closed", user=user, reason=None if exc is None else str(exc))

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._connection is not None:
            self._connection.abort()

    def begin_auth(self, username: str) -> bool:
        """Everybody must give a password, an empty one where that is it, or prove to have a key."""
        self._user = _login_name(username)
        return True

    def password_auth_supported(self) -> bool:
        """By the rows of /user."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Let in by password whoever has no key here."""
        user = _login_name(username)
        wrong = "wrong_password" in self._router.misbehaviour.strike(("/login",), user)
        try:
            by_key = bool(keys_of(self._router.store, user))
            self._router.access.login(SERVICE, user, password, self._peer, wrong=wrong or by_key)
        except LoginError:
            return False
        return True

    def public_key_auth_supported(self) -> bool:
        """By the rows of /user/ssh-keys."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this key lets the user in; the client must then prove to have its other half."""
        user = _login_name(username)
        shown = " ".join(key.export_public_key("openssh").decode().split()[:2])
        if shown not in keys_of(self._router.store, user):
            return False
        try:
            self._router.access.login_by_key(SERVICE, user, self._peer)
        except LoginError:
            return False
        return True

    def auth_completed(self) -> None:
        """The user is in."""
        self._session = (self._user, self._router.access.opened(SERVICE, self._user, self._peer))
        self._router.log.write("ssh_opened", user=self._user, peer=self._peer)


def _login_name(username: str) -> str:
    """The user in a login name, which may carry wishes about the terminal: ``admin+ct80w``."""
    return username.partition("+")[0]
