"""Builds the adapters and joins them. The only place that does."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from edgeagent.config.site import Site
from edgeagent.core.facts import Fact, Instant
from edgeagent.core.intents import Notify
from edgeagent.core.settings import ALIVE_LIST
from edgeagent.daemon import postman
from edgeagent.daemon.actuator import Actuator
from edgeagent.daemon.control import StatusSocket
from edgeagent.daemon.loop import Loop
from edgeagent.daemon.pollers import PathPoller, RouterPoller
from edgeagent.host import clock, systemd
from edgeagent.outlets.mail import MailServer
from edgeagent.probes.errors import ProbeUnavailable
from edgeagent.probes.icmp import IcmpProber
from edgeagent.probes.sip import SipProber
from edgeagent.routeros.errors import RouterError
from edgeagent.routeros.session import Listener, Session
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Outgoing
from edgeagent.store.store import Store

log = logging.getLogger(__name__)
COMMAND_S = 5.0
AGAIN_S = 1.0
STORE_AGAIN_S = 30.0


def instant() -> Instant:
    """Now."""
    return Instant(clock.mono_s(), clock.boot_id(), clock.wall_s(), clock.wall_quality())


class Daemon:
    """One running agent."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.password = _secret(site.router.password_file)
        self.certificate = Path(site.router.certificate).read_text()
        tags = [path.tag for path in site.paths]
        media_marks = frozenset(f"edge-{tag}-media" for tag in tags[1:])
        marks = (*(f"edge-{tag}" for tag in tags), *sorted(media_marks))
        settings = site.settings()
        lists = (ALIVE_LIST, *(name for path in settings.paths for name in (path.site_list, path.phone_list)))
        self.actuator = Actuator(
            self.open_session, site.paths, lists, marks, media_marks, site.id, self.tell, clock.mono_s
        )
        self.router = RouterPoller(self.open_session, site.paths, marks, media_marks, self.tell, clock.mono_s)
        self.paths = {path.name: PathPoller(path, site.router.address, self.tell, clock.mono_s) for path in site.paths}
        self.loop = Loop(settings, None, self.actuator, self.router, self.paths, self._outgoing, instant)
        self.status = StatusSocket(Path(site.control_socket), self.loop.document)
        self.probers: list[IcmpProber | SipProber] = []
        self.failed = False

    def tell(self, fact: Fact) -> None:
        """Hand a fact to the loop."""
        self.loop.tell(fact)

    async def open_session(self) -> Session:
        """A new connection to the router."""
        router = self.site.router
        return await Session.open(
            router.address,
            router.port,
            router.user,
            self.password,
            self.certificate,
            COMMAND_S,
            source=self.site.agent_address,
        )

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit code. The router is left as it is: its leases lapse."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self.loop.store = await self._open_store()
        tasks = [self._core(stop), self._forever("probes", self._open_probers)]
        tasks += [self._forever(name, work) for name, work in self._router_work().items()]
        tasks += [self._forever("mail", self._post), self._forever("status socket", self._serve_status)]
        running = [asyncio.create_task(task) for task in tasks]
        systemd.ready()
        try:
            await stop.wait()
        finally:
            await self._close(running)
        return 3 if self.failed else 0

    async def _close(self, running: list[asyncio.Task[None]]) -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.status.close()
        for poller in self.paths.values():
            poller.close()
        for prober in self.probers:
            prober.close()
        if self.loop.store is not None:
            await self.loop.store.close()

    async def _post(self) -> None:
        """Deliver mails. A store that could not be opened at start is tried again: until then they wait in memory."""
        while self.loop.store is None:
            await asyncio.sleep(STORE_AGAIN_S)
            self.loop.store = await self._open_store()
        post = postman.Postman(self.site, self._mail_server(), self.loop.store, self._mail_source, instant, self.tell)
        self.loop.posted = post.wake.set
        await post.run()

    async def _serve_status(self) -> None:
        await self.status.open()
        await asyncio.Event().wait()

    async def _open_store(self) -> Store | None:
        try:
            return await asyncio.wait_for(Store.open(Path(self.site.state_folder) / "store.db"), COMMAND_S)
        except (StoreUnavailable, TimeoutError) as error:
            log.error("running without history: %s", error)  # noqa: TRY400  (no traceback: the reason says it all)
            return None

    async def _open_probers(self) -> None:
        """Open what is not open yet; a source address may come later than the agent."""
        missing: list[str] = []
        for path in self.site.paths:
            poller = self.paths[path.name]
            try:
                if poller.control is None:
                    poller.control = self._icmp(self.site.agent_address, poller.control_replied)
                if poller.icmp is None:
                    poller.icmp = self._icmp(path.source, poller.icmp_replied)
                if poller.sip is None:
                    poller.sip = self._sip(path.source, poller)
            except ProbeUnavailable as error:
                missing.append(str(error))
        if missing:
            raise ProbeUnavailable("; ".join(missing))
        await asyncio.Event().wait()

    def _icmp(self, source: str, on_reply: Callable[[str, int, float, float], None]) -> IcmpProber:
        prober = IcmpProber(source, on_reply, now=clock.mono_s, token=clock.token)
        prober.open()
        self.probers.append(prober)
        return prober

    def _sip(self, source: str, poller: PathPoller) -> SipProber:
        provider = self.site.provider
        prober = SipProber(
            source,
            provider.registrar,
            provider.registrar_port,
            poller.sip_answered,
            now=clock.mono_s,
            token=clock.token,
        )
        prober.open()
        self.probers.append(prober)
        return prober

    def _router_work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {"actuator": self.actuator.run, "router": self.router.run, "listener": self._listen}

    async def _listen(self) -> None:
        router = self.site.router
        listener = await Listener.open(
            router.address,
            router.port,
            router.user,
            self.password,
            self.certificate,
            COMMAND_S,
            words=["/interface/listen", "=.proplist=.id,name,running"],
            source=self.site.agent_address,
        )
        try:
            async for row in listener:
                self.router.link_seen(row, clock.mono_s())
        finally:
            await listener.close()

    async def _core(self, stop: asyncio.Event) -> None:
        """A core that fails cannot be trusted with its state: end, and let the service manager start afresh."""
        try:
            await self.loop.run()
        except Exception:
            log.exception("the core failed; ending, to be started anew")
            self.failed = True
            stop.set()

    async def _forever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run one subsystem; when it fails, say so and start it again. None may take another down."""
        told = ""
        while True:
            try:
                await work()
            except (RouterError, OSError, ValueError) as error:  # ValueError: a certificate that is none
                if str(error) != told:
                    log.warning("%s: %s", name, error)
                told = str(error)
            except Exception:
                # The supervisor is the one place that may catch everything: a defect in one subsystem must not stop
                # the others from keeping the phones alive.
                log.exception("%s failed; starting it again", name)
            await asyncio.sleep(AGAIN_S)

    def _outgoing(self, notice: Notify, now: Instant) -> Outgoing:
        return postman.outgoing(self.site, notice, now)

    def _mail_source(self) -> str:
        """Mail leaves by the path that carries voice: the other one is down, or costs money."""
        return self.site.path(self.loop.state.place.path).source

    def _mail_server(self) -> MailServer:
        mail = self.site.mail
        password = _secret(mail.password_file)
        security: Literal["tls", "starttls"] = "tls" if mail.security == "tls" else "starttls"
        return MailServer(mail.server, mail.port, security, mail.server_name, mail.user, password, mail.ca_file or None)


def _secret(path: str) -> str:
    return Path(path).read_text().strip()


def main(site: Site) -> int:
    """Run the agent in the foreground; returns the exit code."""
    try:
        daemon = Daemon(site)
    except OSError as error:
        log.error("cannot start: %s: %s", error.filename, error.strerror)  # noqa: TRY400
        return 2
    except UnicodeDecodeError as error:
        log.error("cannot start: a file that site.toml names is not text: %s", error.reason)  # noqa: TRY400
        return 2
    return asyncio.run(daemon.run())
