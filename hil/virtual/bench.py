"""The virtual bench: real kernel routing, real SIP programs, one bed for each run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from hil.bench import PHONES, Bench, BenchBroken, Binding, CannotRun, Event, Match, Options
from hil.virtual import addresses as plan
from hil.virtual import site as config
from hil.virtual.control import ControlClient
from hil.virtual.phones import STANDARD_PHONES, CallState, Phone
from hil.virtual.provider import Provider
from hil.virtual.provider_events import EventLog, LineTail
from hil.virtual.provider_mail import MailMode
from hil.virtual.routeros.certificate import make_certificate
from hil.virtual.routeros.client import ApiClient
from hil.virtual.topology import Bed, clean_stale
from hil.virtual.topology_netns import inside

HOLD_S = 30.0
REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("ip", "nft", "conntrack", "kamailio", "rtpengine", "baresip", "exim4", "dnsmasq", "openssl", "setpriv")
ANSWER_S = 4.0
ECHO_REQUEST = b"\x08" + bytes(7)  # the kernel fills in identifier and checksum


def can_run() -> str:
    """Why this machine cannot run the virtual bench; empty where it can."""
    if os.geteuid() != 0:
        return "the virtual bench needs root: it makes network namespaces"
    missing = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/sbin:" + os.environ["PATH"]) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; `make setup` as root installs them"
    if not Path("/dev/net/tun").exists():
        return "the kernel has no /dev/net/tun"
    return ""


class VirtualBench:
    """One site in namespaces. Use :func:`open_bench`."""

    def __init__(self, options: Options, bed: Bed, folder: Path) -> None:
        self.options = options
        self.random = random.Random(f"{options.seed}")
        self.bed = bed
        self.folder = folder
        self.log = EventLog(folder / "bench.events")
        self.seen: list[Event] = []
        self.changed = asyncio.Event()
        self.log.listen(self._take)
        self.tails = [LineTail(path, self._line) for path in (bed.events_path, folder / "router.events")]
        self.provider = Provider(bed.spawn, folder / "provider", self.log)
        self.phones: dict[str, Phone] = {}
        self.agent: Any = None
        self.router: ControlClient | None = None
        self.certificate = folder / "router.crt"

    # --- the log -------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The bench's clock, s."""
        return time.monotonic()

    def observe(self, event: str, **fields: Any) -> Event:
        """Note something."""
        return self._note("bench", event, fields)

    def _note(self, source: str, event: str, fields: dict[str, Any], t: float | None = None) -> Event:
        at_s = time.monotonic() if t is None else t
        self.log.add(source, event, at_s, **fields)
        return {"t": at_s, "source": source, "event": event, **fields}

    def events(self) -> list[Event]:
        """All events so far, by time."""
        return sorted(self.seen, key=lambda event: float(event["t"]))

    def _line(self, line: str) -> None:
        with contextlib.suppress(ValueError):  # a line cut short by a kill
            self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        self.seen.append(event)
        self.changed.set()

    async def wait(self, match: Match, timeout_s: float, since_s: float = 0.0) -> Event | None:
        """The first matching event, waiting for it."""
        end_s, looked = self.now() + timeout_s, 0
        while True:
            self.changed.clear()
            fresh, looked = self.seen[looked:], len(self.seen)
            for event in fresh:
                if event["t"] >= since_s and match(event):
                    return event
            left_s = end_s - self.now()
            if left_s <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), left_s)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    # --- the lines -----------------------------------------------------------------------------------------------

    async def cut(self, line: str, direction: str = "both") -> float:
        """Silent death."""
        return float((await self.bed.emulator.call("cut", link=line, direction=direction))["t"])

    async def restore(self, line: str) -> float:
        """Back again."""
        return float((await self.bed.emulator.call("restore", link=line))["t"])

    async def unplug(self, line: str) -> float:
        """Carrier lost, seen by the router."""
        return float((await self.bed.emulator.call("carrier", link=line, on=False))["t"])

    async def plug(self, line: str) -> float:
        """Carrier back."""
        return float((await self.bed.emulator.call("carrier", link=line, on=True))["t"])

    async def impair(self, line: str, **fields: Any) -> float:
        """The emulator's impairment fields."""
        return float((await self.bed.emulator.call("impair", link=line, **fields))["t"])

    async def capture(self, label: str) -> Event:
        """Totals by line, direction and class."""
        reply = await self.bed.emulator.call("flows")
        totals: dict[str, dict[str, int]] = {}
        for row in reply["flows"]:
            entry = totals.setdefault(f"{row['link']}/{row['direction']}/{row['class']}", {})
            _add(entry, row)
        return self._note("emulator", "totals", {"label": label, "totals": totals}, float(reply["t"]))

    async def reset_gaps(self) -> None:
        """Measure silences from now on."""
        await self.bed.emulator.call("reset")

    async def call_gap(self, label: str) -> None:
        """Note the longest silence of every media flow since the last reset."""
        reply = await self.bed.emulator.call("max_gaps")
        self._note("emulator", "max_gaps", {"label": label, "gaps": reply["gaps"]}, self.now())

    # --- the site ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Router and provider; the site stays dark until a story starts it."""
        for tail in self.tails:
            tail.start()
        await self._start_router()
        await self.provider.start()

    async def _start_router(self) -> None:
        make_certificate(self.folder, plan.ROUTER_LAN)
        initial, control = self.folder / "router.json", self.bed.folder / "router.sock"
        initial.write_text(json.dumps(config.router_configuration(self.options.profile)))
        command = [sys.executable, "-m", "hil", "router", "--plane", "kernel", "--listen", plan.ROUTER_LAN]
        command += ["--version", self.options.router, "--profile", self.options.profile]
        command += ["--cert", str(self.certificate), "--key", str(self.folder / "router.key")]
        command += [
            "--initial",
            str(initial),
            "--control",
            str(control),
            "--events",
            str(self.folder / "router.events"),
        ]
        process = self.bed.spawn("rtr", command, "router.log", {"PYTHONPATH": str(REPOSITORY)})
        end_s = self.now() + 10.0
        while self.router is None:
            if process.poll() is not None or self.now() > end_s:
                raise BenchBroken(f"the virtual router did not start; see {self.bed.logs / 'router.log'}")
            await asyncio.sleep(0.02)
            with contextlib.suppress(OSError):
                self.router = await ControlClient.connect(control)
        await self.router.call("hello")

    async def start_site(self, phones: Iterable[str] = PHONES, spread_s: float = 5.0) -> None:
        """Provision, agent, phones."""
        await self.provision("--apply")
        if self.options.breakage != "agent-not-started":
            await self.start_agent()
        await self._break()
        await self.start_phones(phones, spread_s)
        self.observe("site up")

    async def provision(self, how: str) -> None:
        """Run ``edgeagent provision``."""
        site = self._site()
        command = [sys.executable, "-m", "edgeagent", "--site", str(site), "provision", how]
        process = self.bed.spawn("pi", command, "provision.log", {"PYTHONPATH": str(REPOSITORY)})
        code = await asyncio.to_thread(process.wait, 60)
        if code != 0:
            raise BenchBroken(f"edgeagent provision {how} ended with {code}; see {self.bed.logs / 'provision.log'}")

    def _site(self) -> Path:
        path = self.folder / "agent" / "site.toml"
        if not path.exists():
            config.write_agent_site(
                path.parent,
                self.options.profile,
                self.certificate,
                self.provider.mail.certificate,
                HOLD_S,
                self.bed.folder / "agent.sock",
            )
        return path

    async def start_agent(self) -> None:
        """Start the agent's process."""
        command = [sys.executable, "-m", "edgeagent", "--site", str(self._site()), "run"]
        self.agent = self.bed.spawn("pi", command, "agent.log", {"PYTHONPATH": str(REPOSITORY)})
        self.observe("agent started")

    async def stop_agent(self, *, kill: bool = False) -> None:
        """End the agent's process."""
        if self.agent is None:
            return
        if kill:
            self.bed.stop(self.agent)
        else:
            self.agent.terminate()
            await asyncio.to_thread(self.agent.wait, 15)
        self.agent = None
        self.observe("agent stopped", kill=kill)

    async def _break(self) -> None:
        """Break the product from outside, for ``bite``."""
        lists, connections = "/ip/firewall/address-list", "/ip/firewall/connection/remove"
        match self.options.breakage:
            case "lease-swallowed":
                await self.router_misbehave("swallow", command=f"{lists}/add", arguments="list=edge-lte-site")
            case "removals-swallowed":
                await self.router_misbehave("swallow", command=connections)
            case "mail-refused":
                await self.provider.mail.set_mode(MailMode.DEFER)
            case _:
                return
        self.observe("broken", how=self.options.breakage)

    async def start_phones(self, phones: Iterable[str], spread_s: float) -> None:
        """Start phones at seeded moments and wait until the registrar has them all."""
        chosen = [spec for spec in STANDARD_PHONES if spec.name in set(phones)]
        moments = {spec.name: self.random.uniform(0, spread_s) for spec in chosen}

        async def one(name: str) -> None:
            spec = next(spec for spec in chosen if spec.name == name)
            await asyncio.sleep(moments[name])
            phone = Phone(spec, self.bed.spawn, self.folder / "phones", self.log)
            self.phones[name] = phone
            await phone.start()
            await phone.wait_registered(15.0)

        try:
            await asyncio.gather(*(one(spec.name) for spec in chosen))
        except TimeoutError as error:
            raise BenchBroken(f"phones did not register on a healthy line; see {self.bed.logs}") from error

    async def power(self, box: str, *, on: bool) -> None:
        """Only the router can be switched, and it comes back by itself."""
        if box != "router" or self.router is None:
            raise CannotRun(f"the virtual bench cannot switch {box}")
        if not on:
            await self.router.call("reboot", down_s=5)

    async def router_sentence(self, *words: str) -> list[dict[str, str]]:
        """As local administrator."""
        assert self.router is not None
        rows: list[dict[str, str]] = (await self.router.call("sentence", words=list(words)))["rows"]
        return rows

    async def router_misbehave(self, kind: str, **fields: Any) -> None:
        """See hil.virtual.routeros.misbehave."""
        assert self.router is not None
        await self.router.call("misbehave", kind=kind, **fields)

    async def router_behave(self) -> None:
        """As it should again."""
        assert self.router is not None
        await self.router.call("clear")

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        """Over the plain API port, from the agent's host, as the administrator."""

        def make() -> ApiClient:
            return ApiClient(lambda: socket.create_connection((plan.ROUTER_LAN, 8728), 5.0), "admin", "")

        client = await asyncio.to_thread(inside, self.bed.namespace("pi"), make)
        with contextlib.closing(client):
            return await asyncio.to_thread(client.command, *words)

    async def place_call(self, phone: str, timeout_s: float) -> float | None:
        """Dial, and dial again like a person when nobody answers."""
        end_s = self.now() + timeout_s
        while self.now() < end_s:
            asked_s = self.now()
            await self.phones[phone].dial("far")
            self.observe("dialled", user=phone)
            user = self.phones[phone].spec.user

            def answered(event: Event, user: str = user) -> bool:
                return bool(event["source"] == "kamailio" and event["event"] == "answered" and event["user"] == user)

            found = await self.wait(answered, min(ANSWER_S, end_s - asked_s), asked_s)
            if found is not None:
                return float(found["t"])
            await self.phones[phone].hangup()
        return None

    async def hang_up(self, phone: str) -> None:
        """End the call."""
        await self.phones[phone].hangup()
        self.observe("hung up", user=phone)

    async def in_call(self, phone: str) -> bool:
        """Whether the phone believes itself in a call."""
        return self.phones[phone].call_state is CallState.ESTABLISHED

    async def provider_options(self, *, ignore: bool) -> None:
        """Ignore or answer OPTIONS."""
        self.provider.sip.ignore_options(ignore)

    async def provider_silent(self, *, silent: bool) -> None:
        """Pause or resume all of the provider's voice servers."""
        await (self.provider.pause(answer_ping=False) if silent else self.provider.resume())

    async def bindings(self) -> list[Binding]:
        """Asked of Kamailio."""
        return [Binding(b.user, b.address, b.transport, b.expires_s) for b in self.provider.bindings()]

    async def voice_flows(self) -> list[dict[str, str]]:
        """Asked of the kernel, through the virtual router's own view of it."""
        rows = await self.router_sentence("/ip/firewall/connection/print")
        prefix = plan.VOICE_PREFIX.rpartition(".")[0]
        return [row for row in rows if row.get("dst-address", "").startswith(prefix)]

    async def lan_attempt(self, text: str, *, seconds: float = 1.0) -> None:
        """Marked UDP from the PC to a neutral host."""
        await self.bed.emulator.call("mark", text=text)

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        sender = inside(self.bed.namespace("pc"), make)
        with contextlib.closing(sender):
            for _ in range(max(1, int(seconds * 20))):
                with contextlib.suppress(OSError):
                    sender.sendto(text.encode() * 4, (plan.NEUTRAL_TARGETS[2], 4433))
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        self.observe("lan attempt", text=text)
        await self._note_marks(text)

    async def _note_marks(self, text: str) -> None:
        reply = await self.bed.emulator.call("flows")
        found: dict[str, int] = {}
        for row in reply["flows"]:
            found[row["link"]] = found.get(row["link"], 0) + int(row["marked_bytes"].get(text, 0))
        control = any(event["event"] == "leak control" for event in self.seen)
        for link, count in found.items():
            if count:
                self._note("emulator", "marked", {"link": link, "bytes": count, "text": text, "control": control})

    async def ping_from_site(self, target: str) -> None:
        """One ping with the host's main address."""

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)

        with contextlib.closing(inside(self.bed.namespace("pi"), make)) as sender:
            sender.sendto(ECHO_REQUEST, (target, 0))
        await asyncio.sleep(0.2)

    async def ask(self, instruction: str) -> None:
        """Nobody is there."""
        raise CannotRun(f"the virtual bench has no person to ask: {instruction}")

    async def stop(self) -> None:
        """End every program and write the one event file."""
        with contextlib.suppress(Exception):
            await self.stop_agent()
        for phone in self.phones.values():
            await phone.stop()
        await self.provider.stop()
        await asyncio.sleep(0.1)
        for tail in self.tails:
            await tail.stop()
        if self.router is not None:
            await self.router.close()


@contextlib.asynccontextmanager
async def open_bench(options: Options, folder: Path) -> AsyncIterator[VirtualBench]:
    """A fresh bed with router and provider running; nothing of it is left afterwards. Logs stay in ``folder``."""
    reason = can_run()
    if reason:
        raise CannotRun(reason)
    clean_stale()
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with Bed.up(profile=options.profile, seed=options.seed, artifacts=folder) as bed:
        bench = VirtualBench(options, bed, folder)
        try:
            await bench.start()
            yield bench
        finally:
            await bench.stop()
            with (folder / "events.jsonl").open("w") as target:
                target.writelines(json.dumps(event) + "\n" for event in bench.events())
            bench.log.close()


def _add(entry: dict[str, int], row: dict[str, Any]) -> None:
    """Fold one flow row into the totals of its class."""
    voice = row.get("sip_method") != "OPTIONS"
    counters = {"packets": row["packets"], "bytes": row["bytes"], "voice_packets": row["packets"] if voice else 0}
    if voice:
        counters.update({f"dropped_{reason}": drop["packets"] for reason, drop in row["dropped"].items()})
    for name, count in counters.items():
        entry[name] = entry.get(name, 0) + int(count)


def _conforms(bench: VirtualBench) -> Bench:
    """Checked by mypy: the virtual bench is a bench."""
    return bench
