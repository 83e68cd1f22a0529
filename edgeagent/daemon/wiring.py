"""Builds the adapters and joins them. The only place that does."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from edgeagent import texts
from edgeagent.config.site import Router, Site, resolved
from edgeagent.core.detector import UP
from edgeagent.core.facts import Fact, Instant, PartFailed, PartWorks
from edgeagent.core.failover import HOME
from edgeagent.core.intents import Notify
from edgeagent.daemon import postman, registrar
from edgeagent.daemon.actuator import Actuator
from edgeagent.daemon.control import StatusSocket
from edgeagent.daemon.devices import Devices
from edgeagent.daemon.drift import RowsWatch
from edgeagent.daemon.loop import Loop
from edgeagent.daemon.memory import Memory
from edgeagent.daemon.outbox import Outbox
from edgeagent.daemon.pollers import PathPoller, PingedPath, Rounds, RouterPoller
from edgeagent.daemon.registrar import First, Registrar
from edgeagent.daemon.watchdog import Watchdog
from edgeagent.host import clock, installation, secrets, systemd
from edgeagent.outlets.mail import MailServer
from edgeagent.probes.dns import Answer
from edgeagent.probes.errors import ProbeUnavailable
from edgeagent.probes.icmp import IcmpProber
from edgeagent.probes.sip import SipProber
from edgeagent.routeros import sentences
from edgeagent.routeros.errors import RouterError, RouterUnusable
from edgeagent.routeros.rows import DNS_MARK
from edgeagent.routeros.session import Listener, Session, Streams
from edgeagent.store import exclusive
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.exclusive import Exclusive
from edgeagent.store.records import Outgoing
from edgeagent.store.store import Store

log = logging.getLogger(__name__)
FAILED, MOVED = 3, 4  # exit codes
COMMAND_S = 5.0
AGAIN_S = 1.0
LIVED_S = 10.0
OWNER_S = 2.0  # for a disk to tell who we are
STORE_AGAIN_S = 30.0
SETTLE_S = 2.0
SILENCE_S = 10.0  # the primary is pinged each second
# What each critical part may take between two signs of life; each is more than its longest step (see the watchdog).
CORE_S, PROBES_S, ACTUATOR_S = 20.0, 10.0, 45.0


class AlreadyRuns(Exception):
    """Another agent has this site's state folder; its text is the file that it holds."""


def instant() -> Instant:
    """Now."""
    return Instant(clock.mono_s(), clock.boot_id(), clock.wall_s(), clock.wall_quality())


class Daemon:
    """One running agent. ``opening``: of the store, where that has begun already."""

    def __init__(self, site: Site, opening: asyncio.Task[Store] | None = None) -> None:
        self.site = site
        tags = [path.tag for path in site.paths]
        media_marks = frozenset(f"edge-{tag}-media" for tag in tags[1:])
        marks = (*(f"edge-{tag}" for tag in tags), *sorted(media_marks))
        moved = (*marks, DNS_MARK) if site.voice.resolvers else marks  # a query goes with the phone that asks
        settings = site.settings()
        self.actuator = Actuator(
            self.open_session, site.paths, settings.lists, moved, media_marks, site.id, self.tell, clock.mono_s
        )
        memory = Memory(lambda: self.loop.store, site.state_folder, instant)
        self.rows = RowsWatch(site, memory, self.tell, clock.mono_s)
        devices = Devices(clock.mono_s, memory.alone, names=bool(site.voice.resolvers))
        self.router = RouterPoller(
            self.open_session,
            site.paths,
            marks,
            media_marks,
            self.tell,
            clock.mono_s,
            devices=None if site.voice.lans else devices,
            rows=self.rows,
        )
        self.pollers: dict[str, PathPoller] = {}
        self.pinged: dict[str, PingedPath] = {}
        for path in site.paths:
            if site.router_pings:
                self.pinged[path.name] = PingedPath(path, self.tell, clock.mono_s)
            else:
                self.pollers[path.name] = PathPoller(path, site.router.address, self.tell, clock.mono_s)
        self.paths: Mapping[str, Rounds] = self.pinged or self.pollers
        self.loop = Loop(settings, None, self.actuator, self.router, self.paths, self._outgoing, instant)
        self.outbox = Outbox(lambda: self.loop.store, self.loop.unstored, self.loop.pending, instant)
        self.postman = postman.Postman(
            site, self._mail_server, self.outbox, self._voice_source, instant, self.tell, settings.mail
        )
        self.loop.posted = self.postman.wake.set
        self.loop.moved = self.postman.way_changed
        self.loop.watch = lambda allowed: self.rows.order(allowed=allowed)
        self.loop.mend = self.rows.mend
        self.status = StatusSocket(Path(site.control_socket), self.document)
        self.probers: list[IcmpProber | SipProber] = []
        self.opening = opening
        self.registrar: First | None = None  # where its name stands in site.toml
        self.failed = self.moved = False

    def tell(self, fact: Fact) -> None:
        """Hand a fact to the loop."""
        self.loop.tell(fact)

    def document(self) -> dict[str, Any]:
        """The status as of now."""
        return {**self.loop.document(), "mail": {"queued": self.postman.queued, "failed": self.postman.failed}}

    async def open_session(self) -> Session:
        """A new connection to the router."""
        router = self.site.router
        return await Session.open(
            router.address,
            router.port,
            router.user,
            *_keys(router),
            COMMAND_S,
            source=self.site.agent_address,
        )

    async def run(self, stop: asyncio.Event | None = None) -> int:
        """Run until told to stop, by signals where there is no ``stop``; returns the exit code.

        The router is left as it is: its leases lapse.
        """
        stop = _stopped_by_signals() if stop is None else stop
        # Both ask the disk, and one that hangs is waited for once (clause C2).
        self.actuator.owner, _ = await asyncio.gather(self._owner(), self._open_store())
        probes = self._ping_by_router if self.pinged else self._open_probers
        tasks = [self._core(stop), self._forever("probes", probes)]
        tasks += [self._forever(name, work) for name, work in self._router_work().items()]
        tasks += [self._forever("mail", self.postman.run), self._forever("store", self._keep_store_open)]
        tasks += [self._forever("status socket", self._serve_status), self._forever("watchdog", self._watchdog().run)]
        tasks += [self._forever("registrar", partial(self._follow, self.registrar, stop))] if self.registrar else []
        running = [asyncio.create_task(task) for task in tasks]
        try:
            await stop.wait()
        finally:
            systemd.stopping(texts.screen("unit stops", path=self.loop.state.place.path))
            await self._close(running)
        return FAILED if self.failed else MOVED if self.moved else 0

    async def _owner(self) -> str:
        """Under which name leases are held: this installation's, for a site.toml may have been copied (clause P7).

        The site's name where there is no identity yet, or the disk does not give it in time.
        """
        folder = Path(self.site.state_folder)
        try:
            async with asyncio.timeout(OWNER_S):
                return await asyncio.to_thread(installation.read, folder)
        except (OSError, ValueError, TimeoutError) as error:
            log.info("leases are held in the name of the site: %s", error)
            return self.site.id

    def _watchdog(self) -> Watchdog:
        """What must be seen to work for the process to be let live."""
        hearts: dict[str, Callable[[], float]] = {
            "core": lambda: self.actuator.turned_s + CORE_S,
            "actuator": lambda: self.actuator.beat_s + ACTUATOR_S,
        }
        for name, poller in self.paths.items():
            hearts[f"probes of {name}"] = partial(_next_round_s, poller)
        return Watchdog(hearts, self.actuator.attempted, self._unit_status, clock.mono_s)

    def _unit_status(self) -> str:
        found = self.loop.document()
        faults = ", ".join(found["faults"]) or texts.screen("unit well")
        return texts.screen("unit", path=found["path"], phase=found["phase"], what=faults)

    async def _close(self, running: list[asyncio.Task[None]]) -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.loop.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.outbox.settle()  # a mail that has left must not leave again after the next start
        if self.opening is not None:
            self.opening.cancel()
        await self.status.close()
        for poller in self.paths.values():
            poller.close()
        for prober in self.probers:
            prober.close()
        if self.loop.store is not None:
            await self.loop.store.close()

    async def _serve_status(self) -> None:
        await self.status.open()
        await asyncio.Event().wait()

    async def _keep_store_open(self) -> None:
        """A store that could not be opened at start is tried again; mails go out meanwhile, from memory."""
        while self.loop.store is None:
            await asyncio.sleep(STORE_AGAIN_S)
            await self._open_store()
        await asyncio.Event().wait()

    async def _open_store(self) -> None:
        if self.opening is None:  # one that hangs is waited for: each try would cost a thread that hangs as well
            self.opening = _opening(self.site)
        await asyncio.wait({self.opening}, timeout=COMMAND_S)
        if not self.opening.done():
            self.loop.store_failed(StoreUnavailable("hung", self.site.state_folder))
            return
        opened, self.opening = self.opening, None
        try:
            self.loop.use(opened.result())
        except StoreUnavailable as error:
            self.loop.store_failed(error)

    async def _follow(self, began: First, stop: asyncio.Event) -> None:
        """Keep to the registrar's name; end, to be started anew, where it means another address."""

        async def ask() -> Answer:
            return await registrar.ask(self.site, self._voice_source())

        following = Registrar(self.site, ask, self._keep_registrar, self._quiet, self.tell, clock.mono_s)
        await following.follow(began.due_s, kept=began.kept)
        self.moved = True
        stop.set()

    async def _keep_registrar(self, address: str) -> bool:
        try:
            if self.loop.store is not None:
                await self.loop.store.commit([], keep=registrar.kept(self.site, address))
        except StoreUnavailable:  # told by others
            return False
        return self.loop.store is not None

    def _quiet(self) -> bool:
        """Whether a new start would disturb nobody."""
        found = self.loop.document()
        home = found["phase"] == HOME and found["paths"][self.site.paths[0].name]["verdict"] == UP
        return home and not found["calls"]

    async def _open_probers(self) -> None:
        """Open what is not open yet; a source address may come later than the agent."""
        missing: list[ProbeUnavailable] = []
        for path in self.site.paths:
            poller = self.pollers[path.name]
            try:
                if poller.control is None:
                    poller.control = self._icmp(self.site.agent_address, poller.control_replied)
                if poller.icmp is None:
                    poller.icmp = self._icmp(path.source, poller.icmp_replied)
                if poller.sip is None:
                    poller.sip = self._sip(path.source, poller)
            except ProbeUnavailable as error:
                missing.append(error)
        if missing:
            self.tell(PartFailed("probes", missing[0].fault, clock.mono_s()))
            raise ProbeUnavailable("; ".join(str(error) for error in missing))
        self.tell(PartWorks("probes", clock.mono_s()))
        await asyncio.Event().wait()

    async def _ping_by_router(self) -> None:
        """One connection for all pings of all paths."""
        session = await self.open_session()
        try:
            rows = await session.print("/system/resource", ("version",))
            command = sentences.ping_command(rows[0].get("version", "") if rows else "")
            streams = Streams(session)
            for pinged in self.pinged.values():
                pinged.pinger.attach(streams, command)
            await streams.run(SILENCE_S)
        finally:
            for pinged in self.pinged.values():
                pinged.pinger.detach()
            await session.close()

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
            *_keys(router),
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

    @staticmethod
    async def _forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run one subsystem; when it fails, say so and start it again. None may take another down.

        What has worked for a while is started again at once: a router that has rebooted is found out by the sentence
        that moves voice, which must not wait. What fails soon, as with a router that refuses, is tried once a second.
        """
        told = ""
        while True:
            begun_s = clock.mono_s()
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
            await asyncio.sleep(AGAIN_S if clock.mono_s() - begun_s < LIVED_S else 0.0)

    def _outgoing(self, notice: Notify, now: Instant) -> Outgoing:
        return postman.outgoing(self.site, notice, now)

    def _voice_source(self) -> str:
        """Mail and questions for names leave by the path that carries voice: the other one is down, or costs money.

        Where the paths' addresses are the router's own they can leave from the agent's address only: by the owner's
        routing, so while the primary is dead they wait.
        """
        if self.pinged:
            return self.site.agent_address
        return self.site.path(self.loop.state.place.path).source

    def _mail_server(self) -> MailServer:
        mail = self.site.mail
        password = secrets.read(mail.password_file)
        security: Literal["tls", "starttls"] = "tls" if mail.security == "tls" else "starttls"
        return MailServer(mail.server, mail.port, security, mail.server_name, mail.user, password, mail.ca_file or None)


def _keys(router: Router) -> tuple[str, str]:
    """The router's password and certificate, read anew for each connection: they may come later than the agent."""
    try:
        password = secrets.read(router.password_file)
    except OSError as error:
        raise RouterUnusable(f"{error.filename}: {error.strerror}") from error
    try:
        return password, Path(router.certificate).read_text()
    except UnicodeDecodeError as error:
        raise RouterUnusable(f"{router.certificate}: not text ({error.reason}); expected a certificate (PEM)") from None
    except OSError as error:
        raise RouterUnusable(f"{error.filename}: {error.strerror}; expected a readable file") from error


def _next_round_s(poller: Rounds) -> float:
    """By when the poller must have told its next round."""
    return poller.next_round_s() + PROBES_S


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _opening(site: Site) -> asyncio.Task[Store]:
    return asyncio.create_task(Store.open(Path(site.state_folder) / "store.db"))


async def _named(site: Site, learnt: Callable[[str], None]) -> int:
    """Run the agent of a site whose registrar is a name, once that has an address."""
    stop = _stopped_by_signals()
    opening = _opening(site)
    finding = asyncio.create_task(registrar.first(site, opening))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({finding, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not finding.done():
        for task in (finding, opening):
            task.cancel()
        return 0
    found = finding.result()
    learnt(found.address)
    daemon = Daemon(resolved(site, found.address), opening)
    daemon.registrar = found
    return await daemon.run(stop)


async def _alone(site: Site, learnt: Callable[[str], None]) -> int:
    """Run unless another does: two would move voice, write one journal and mail twice, each as the same installation.

    The lock is let go of by the end of the process alone, so that nobody begins while this one is still writing.
    """
    lock = Exclusive(site.state_folder, exclusive.AGENT, barred=True)
    if not await lock.take():
        raise AlreadyRuns(str(lock.path))
    return await (_named(site, learnt) if site.provider.registrar_name else Daemon(site).run())


def main(site: Site, learnt: Callable[[str], None] = lambda _address: None) -> int:
    """Run the agent in the foreground; returns the exit code. ``learnt``: told an address that the site's name has.

    Raises AlreadyRuns, before anything is touched.
    """
    faulthandler.enable()  # a watchdog's SIGABRT leaves a stack in the log
    return asyncio.run(_alone(site, learnt))
