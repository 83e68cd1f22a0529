"""The router as a whole: its API ports, its sessions, its reboots."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hil.virtual.routeros.access import Access, ends, service_allows
from hil.virtual.routeros.backup import Backups
from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.certificates import Certificates
from hil.virtual.routeros.console import EXPORT, IMPORT, Console
from hil.virtual.routeros.device_mode import DeviceMode
from hil.virtual.routeros.engine import Engine
from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.files import Files
from hil.virtual.routeros.initial import Initial, load
from hil.virtual.routeros.misbehave import Misbehaviour
from hil.virtual.routeros.plane import Plane
from hil.virtual.routeros.session import Session
from hil.virtual.routeros.ssh_keys import SshKeys
from hil.virtual.routeros.store import SERVICE_MENU, Store
from hil.virtual.routeros.values import Version

if TYPE_CHECKING:
    from hil.virtual.routeros.ssh import SshService

SERVICES: Final = ("api", "api-ssl")
SESSIONS_MAX_V6: Final = 1000  # 6.49 publishes no limit; this only keeps a runaway client from eating the bench


@dataclass(frozen=True)
class RouterOptions:
    """What one virtual router is made of. Ports of 0 let the system choose; ``tls_port`` None offers no TLS."""

    version: Version
    profile: Profile = "generic"
    address: str = "127.0.0.1"
    port: int | None = 0
    tls_port: int | None = None
    tls: ssl.SSLContext | None = None
    """What api-ssl offers while no certificate is assigned to it; None offers what a router out of the box does."""
    ssh_port: int | None = None
    ssh_host_key: bytes | None = None
    """An OpenSSH private key; one is made where not given."""
    device_mode: DeviceMode = "advanced"
    free_bytes: int | None = None
    """Space for files; as the board has it where not given."""
    clock_offset_s: float = 0.0
    """How far the router's wall clock is ahead; the boards have none that outlives a power cut."""
    initial: Initial = field(default_factory=dict)
    user: str = "admin"
    password: str = ""
    reboot_s: float = 20.0
    """How long a reboot takes that a client asked for."""


class Router:
    """A running virtual router."""

    def __init__(self, options: RouterOptions, plane: Plane, log: EventLog) -> None:
        self.options = options
        self.log = log
        self.store = Store(
            options.version,
            options.profile,
            device_mode=options.device_mode,
            free_bytes=options.free_bytes,
            clock_offset_s=options.clock_offset_s,
        )
        load(self.store, options.initial)
        self._ensure_user(options.user, options.password)
        self.access = Access(self.store)
        self.plane = plane
        self.engine = Engine(self.store, plane, log)
        self.engine.on_reboot = lambda: self.reboot(options.reboot_s)
        self._files = Files(self.engine)
        self._certificates = Certificates(self.engine, self._files)
        console = Console(self.engine, self._files)
        backups = Backups(self.store, self._files, lambda meanwhile: self.reboot(options.reboot_s, meanwhile))
        self.engine.handlers |= {
            EXPORT: console.export,
            IMPORT: console.import_file,
            "/certificate/import": self._certificates.import_file,
            "/certificate/add": self._certificates.add,
            "/certificate/sign": self._certificates.sign,
            "/certificate/export-certificate": self._certificates.export,
            "/system/backup/load": backups.load,
            "/system/backup/save": backups.save,
            "/user/ssh-keys/import": SshKeys(self.engine, self._files).import_file,
        }
        self.ssh = self._ssh_service(console) if options.ssh_port is not None else None
        self.misbehaviour = Misbehaviour()
        self.sessions: dict[int, Session] = {}
        self.ports: dict[str, int] = {}
        """The ports bound: ``api`` and, where offered, ``api-ssl``."""
        self.api_bytes = dict.fromkeys(SERVICES, 0)
        """What went over the API in either direction since this program began, by service; without TLS."""
        self.error: BaseException | None = None
        """The first defect of this program that a session ran into; the bench must not trust a router that has one."""
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[Any]] = set()
        self._session_numbers = 0
        self._rebooting: asyncio.Task[None] | None = None
        self._powered = asyncio.Event()
        self._powered.set()

    async def start(self) -> None:
        """Bring the plane up and listen."""
        (await self.engine.start()).add_done_callback(self._task_ended)
        await self._listen()
        self.log.write("started", version=self.store.version, profile=self.store.profile, ports=self.ports)

    async def stop(self) -> None:
        """Stop listening, end every session, undo every effect."""
        if self._rebooting is not None:
            self._rebooting.cancel()
            await asyncio.wait([self._rebooting])
        await self._hang_up()
        await self.engine.stop()
        self.log.write("stopped")

    def reboot(self, down_s: float, meanwhile: Callable[[], None] | None = None) -> None:
        """Begin a reboot: off at once, back after ``down_s`` seconds. A reboot under way is not repeated.

        ``meanwhile`` is done while the router is off.
        """
        if not self.rebooting:
            self._rebooting = asyncio.create_task(self._reboot(down_s, meanwhile))
            self._rebooting.add_done_callback(self._task_ended)

    def power(self, *, on: bool) -> None:
        """Off at once until it is switched on again; then it starts, and ``rebooting`` says how long that takes."""
        if on:
            self._powered.set()
        else:
            self._powered.clear()
            self.reboot(0.0)

    def failed(self, error: BaseException) -> None:
        """A session met a defect of this program."""
        self.error = self.error or error
        self.log.write("defect", error=repr(error))

    def _ensure_user(self, user: str, password: str) -> None:
        """The administrator of the bench, unless the initial configuration has its own row for that name."""
        menu = self.store.menus["/user"]
        if user in self.store.names("/user"):
            self.store.set(menu, [user], {"password": password})
        else:
            self.store.add(menu, {"name": user, "group": "full", "password": password})
        self.store.publish()

    def _ssh_service(self, console: Console) -> SshService:
        """Loaded only where it is wanted: a bench without it needs no SSH library."""
        from hil.virtual.routeros.ssh import SshService

        return SshService(self, console, self._files, self.options.ssh_host_key)

    async def _reboot(self, down_s: float, meanwhile: Callable[[], None] | None) -> None:
        self.log.write("reboot", down_s=down_s)
        await self._hang_up()
        await self.engine.stop()
        if meanwhile is not None:
            meanwhile()
        self.store.reboot()
        await asyncio.sleep(down_s)
        await self._powered.wait()
        await self.start()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)

    async def _hang_up(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self.ssh is not None:
            await self.ssh.stop()
        for session in list(self.sessions.values()):
            session.close()
        if self._handlers:
            await asyncio.wait(self._handlers)

    async def _listen(self) -> None:
        wanted: Mapping[str, tuple[int | None, ssl.SSLContext | None]] = {
            "api": (self.options.port, None),
            "api-ssl": (self.options.tls_port, self._tls()),
        }
        for service, (port_asked, tls) in wanted.items():
            if port_asked is None:
                continue
            # After a reboot the router is found where it was, also when the system had chosen the port.
            port = self.ports.get(service, port_asked)
            server = await asyncio.start_server(self._handler(service), self.options.address, port, ssl=tls)
            self._servers.append(server)
            self.ports[service] = server.sockets[0].getsockname()[1]
            self.store.set_service_port(service, self.ports[service])
        if self.ssh is not None and self.options.ssh_port is not None:
            port = self.ports.get("ssh", self.options.ssh_port)
            self.ports["ssh"] = await self.ssh.start(self.options.address, port)
            self.store.set_service_port("ssh", self.ports["ssh"])

    def _tls(self) -> ssl.SSLContext:
        """TLS whose certificate is looked up at each handshake: /ip/service may be given another at any time."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sni_callback = self._choose_certificate
        return context

    def _choose_certificate(self, tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> int | None:
        assigned = self.store.service("api-ssl").values.get("certificate", "none")
        chosen = self.options.tls if assigned == "none" else self._certificates.context(assigned)
        if chosen is None:
            return ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        tls.context = chosen
        return None

    def _handler(self, service: str) -> Any:
        """A callback for asyncio, whose own type for it is private."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            try:
                await self._serve(service, reader, writer)
            finally:
                self._handlers.discard(task)

        return handle

    async def _serve(self, service: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        row = self.store.row(SERVICE_MENU, self.store.service(service))
        sessions_max = int(row.get("max-sessions", SESSIONS_MAX_V6))
        peer = str(writer.get_extra_info("peername")[0])
        open_now = sum(session.service == service for session in self.sessions.values())
        if not service_allows(row, peer) or open_now >= sessions_max:
            self.log.write("session_refused", service=service, peer=peer, sessions=open_now)
            writer.transport.abort()
            return
        self._session_numbers += 1
        session = Session(self, self._session_numbers, service, reader, writer)
        self.sessions[session.number] = session
        shown = self.store.open_connection(service, *ends(writer))
        try:
            await session.serve()
        finally:
            self.store.close_connection(shown)
            del self.sessions[session.number]

    @property
    def rebooting(self) -> bool:
        """Whether a reboot is under way."""
        return self._rebooting is not None and not self._rebooting.done()

    @property
    def summary(self) -> dict[str, object]:
        """What ``hello`` on the control socket tells."""
        error: Sequence[str] = () if self.error is None else (repr(self.error),)
        return {
            "version": self.store.version,
            "profile": self.store.profile,
            "ports": dict(self.ports),
            **({} if self.ssh is None else {"ssh_host_key": self.ssh.host_key}),
            "sessions": len(self.sessions),
            "api_bytes": dict(self.api_bytes),
            "rebooting": self.rebooting,
            "powered": self._powered.is_set(),
            "defects": list(error),
        }
