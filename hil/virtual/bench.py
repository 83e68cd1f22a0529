"""The virtual bench: real kernel routing, real SIP programs, one bed for each run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from hil.bench import HOLD_S, PHONES, Bench, BenchBroken, Binding, CannotRun, Event, Match, Options, disable_rows
from hil.events import LEARNT_LIST
from hil.virtual import addresses as plan
from hil.virtual import site as config
from hil.virtual.control import ControlClient, ControlError
from hil.virtual.echo_host import EchoHost
from hil.virtual.leaks_rig import LeakRig
from hil.virtual.lease_server import LeaseServer
from hil.virtual.name_cache import NameCache
from hil.virtual.owner import PASSWORD, SSH_PORT, USER, Owner
from hil.virtual.phones import STANDARD_PHONES, CallState, Phone, by_name, stop_phones
from hil.virtual.provider import Provider
from hil.virtual.provider_events import EventLog, LineTail
from hil.virtual.provider_mail import MailMode
from hil.virtual.provider_names import SIP_NAME, question
from hil.virtual.provider_programs import GUARD_S
from hil.virtual.record_trap import RecordTrap, commits, places, seen_by
from hil.virtual.routeros.boards import Profile
from hil.virtual.routeros.certificate import make_certificate
from hil.virtual.routeros.client import ApiClient
from hil.virtual.routeros.values import Version
from hil.virtual.starts import AS_NOW, FACTORY, configuration
from hil.virtual.state_disk import DiskError, StateDisk
from hil.virtual.topology import SITE_HOSTS, Bed, clean_stale
from hil.virtual.topology_netns import inside, run_ip
from hil.virtual.usage import kept_waiting, usage
from hil.virtual.voice_checks import MEDIA_PORTS, VoiceChecks

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = (
    *("ip", "nft", "conntrack", "kamailio", "rtpengine", "baresip", "exim4", "dnsmasq", "openssl", "setpriv"),
    *("fsfreeze", "losetup", "mkfs.ext4", "mount", "nsenter", "strace", "unshare"),
)
ANSWER_S, PROVISION_S = 4.0, 300.0
PROVISION_LOG = "provision.log"
QUESTIONS, QUESTION_S = 3, 1.0
# What the boxes need from power to service; real ones need ten times as long, which would only take our time.
ROUTER_BOOT_S, MODEM_BOOT_S, MODEM_DATA_S = 4.0, 3.0, 4.0
BOOT_CLOCK_S = 20  # what the clock of a machine shows when the agent starts
# Run in the agent's place, in the mount namespace that ``ip netns exec`` has made: a boot that never was.
NEW_BOOT = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec unshare --time --monotonic "$@"'
WASTERS = {
    "cpu": "while True: pass",
    "memory": "import time; kept = bytearray(64 << 20); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(3600)",
    "disk": (
        "import os, sys, time\n"
        "file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "while True: os.pwrite(file, os.urandom(4096), 0); os.fsync(file); time.sleep(1)"
    ),
}
RIVAL = "site-of-another"
NAIVE_QUESTIONS = 10
API_PORTS = {"8729": "api-ssl", "8728": "api"}
FOREIGN = f"-I -p udp -s {plan.PC} -d 198.18.%d.%d --sport 40000 --dport 443 -t 3600 -u SEEN_REPLY,ASSURED\n"
# Pure acknowledgements to and from the API: twenty bytes of IPv4 header, as many of TCP's, twelve of time stamps.
WATCH = "api_watch"
ACK_BYTES = 52
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
        self.rival: Any = None
        self.router: ControlClient | None = None
        self.provided = options.start == AS_NOW  # the agent's access and both uplinks are in place
        self.certificate = folder / ("router.crt" if self.provided else "agent/router.crt")
        self.owner = Owner(folder, bed.namespace("pi"))
        self.lease_servers: list[LeaseServer] = []
        self.hold_s = HOLD_S
        self.disk: StateDisk | None = None
        self.writing: asyncio.Task[None] | None = None
        self.trap: RecordTrap | None = None
        self.boots = 0
        self.leaks: LeakRig | None = None
        self.media: EchoHost | None = None
        self.cache: NameCache | None = None
        self.resolvers: tuple[str, ...] = ()
        self.watched = False  # by rules that count what goes to and from the API

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

    def seen_bench(self, event: str) -> bool:
        """Whether the bench has noted such an event."""
        return any(entry["source"] == "bench" and entry["event"] == event for entry in self.seen)

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
        self._note("emulator", "max_gaps", {"label": label, "gaps": reply["gaps"]}, float(reply["t"]))

    async def probe_gap(self, label: str) -> None:
        """Note the spacings of the pings to each target."""
        reply = await self.bed.emulator.call("max_gaps", **{"class": "icmp"})
        gaps = [gap for gap in reply["gaps"] if gap["icmp_type"] == "echo" and gap["direction"] == "up"]
        self._note("emulator", "probe_gaps", {"label": label, "gaps": gaps}, float(reply["t"]))

    async def note_stalls(self, label: str) -> None:
        """Asked of the emulator; read from /proc."""
        reply = await self.bed.emulator.call("pings")
        self._note("emulator", "pings", {"label": label, "pings": reply["pings"]}, float(reply["t"]))
        self._note("kernel", "kept waiting", {"label": label, **kept_waiting(self.agent.pid if self.agent else 0)})

    async def look(self, stage: str) -> Event:
        """Asked of the virtual router and of the emulator."""
        leases: list[str] | None = None
        with contextlib.suppress(ControlError):  # it is rebooting
            rows = await self.router_sentence("/ip/firewall/address-list/print")
            timed = [row for row in rows if row.get("dynamic") == "true" and row["list"] != LEARNT_LIST]
            leases = sorted(f"{row['list']} {row['address'].removesuffix('/32')}" for row in timed)
        reply = await self.bed.emulator.call("last_voice")
        fields = {"stage": stage, "leases": leases, "voice": reply["voice"]}
        return self._note("bench", "look", fields, float(reply["t"]))

    # --- the site ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Router and provider; the site stays dark until a story starts it."""
        for tail in self.tails:
            tail.start()
        await self._start_lease_servers()
        await self._start_router()
        await self.provider.start()
        if self.options.start == FACTORY:
            await self._told(self.bed.wan_port)

    async def _start_lease_servers(self) -> None:
        """DHCP of the ISP and of the carrier, where the router is to be told its addresses."""
        lines = [("car", "lte0", plan.ROUTER_LTE, plan.CARRIER_GATEWAY)] if not self.provided else []
        if self.options.start == FACTORY:
            lines.append(("isp", "wan0", plan.ROUTER_WAN, plan.ISP_GATEWAY))
        self.lease_servers = [LeaseServer(*line, self.bed.spawn, self.folder) for line in lines]
        await asyncio.gather(*(server.start() for server in self.lease_servers))

    async def _told(self, port: str) -> None:
        """Wait until the router's DHCP client on a port is bound."""
        end_s = self.now() + GUARD_S
        while self.now() < end_s:
            rows = await self.router_sentence("/ip/dhcp-client/print")
            if any(row["interface"] == port and row["status"] == "bound" for row in rows):
                return
            await asyncio.sleep(0.1)
        raise BenchBroken(f"the router was told no address on {port}; see {self.folder / 'dhcp-isp.log'}")

    async def _start_router(self) -> None:
        initial, control = self.folder / "router.json", self.bed.folder / "router.sock"
        version, profile = cast(Version, self.options.router), cast(Profile, self.options.profile)
        start = configuration(self.options.start, version, profile)
        initial.write_text(json.dumps(start))
        command = [sys.executable, "-m", "hil", "router", "--plane", "kernel", "--listen", plan.ROUTER_LAN]
        command += ["--version", self.options.router, "--profile", self.options.profile]
        if self.provided:
            make_certificate(self.folder, plan.ROUTER_LAN)
            command += ["--cert", str(self.certificate), "--key", str(self.folder / "router.key")]
        else:
            command += ["--no-cert", "--ssh-port", str(SSH_PORT), "--password-file", str(self.owner.password_file)]
        command += [
            "--initial",
            str(initial),
            "--control",
            str(control),
            "--events",
            str(self.folder / "router.events"),
        ]
        process = self.bed.spawn("rtr", command, "router.log", {"PYTHONPATH": str(REPOSITORY)})
        end_s = self.now() + GUARD_S
        while self.router is None:
            if process.poll() is not None or self.now() > end_s:
                raise BenchBroken(f"the virtual router did not start; see {self.bed.logs / 'router.log'}")
            await asyncio.sleep(0.02)
            with contextlib.suppress(OSError):
                self.router = await ControlClient.connect(control)
        self.owner.host_key = (await self.router.call("hello")).get("ssh_host_key", "")

    async def start_site(
        self,
        phones: Iterable[str] = PHONES,
        spread_s: float = 5.0,
        *,
        hold_s: float = HOLD_S,
        own_disk: bool = False,
        provisioned: bool = False,
    ) -> None:
        """Provision, agent, phones."""
        self.hold_s = hold_s
        if own_disk:
            try:
                self.disk = StateDisk(self.folder / "agent" / "state")
            except DiskError as error:
                raise CannotRun(f"the agent's own disk: {error}") from error
        if not provisioned and (done := await self.provision("--apply"))["code"] != 0:
            raise BenchBroken(f"edgeagent provision ended with {done['code']}; see {self.bed.logs / PROVISION_LOG}")
        if self.options.breakage != "agent-not-started":
            await self.start_agent()
        await self._break()
        await self.start_phones(phones, spread_s)
        self.observe("site up")

    async def provision(self, *words: str, as_owner: bool = False) -> Event:
        """From the agent's host."""
        command = [sys.executable, "-m", "edgeagent", "--site", str(self._site()), "provision", *words]
        command += self.owner.login_words() if as_owner else []
        log, began_s = self.bed.logs / PROVISION_LOG, self.now()
        before = log.stat().st_size if log.exists() else 0
        process = self.bed.spawn("pi", command, PROVISION_LOG, {"PYTHONPATH": str(REPOSITORY)})
        code = await asyncio.to_thread(process.wait, PROVISION_S)
        output = log.read_bytes()[before:].decode(errors="replace")
        return self.observe("provision", words=list(words), code=code, output=output, began_s=began_s)

    async def export(self, label: str) -> Event:
        """Read by the owner from the agent's host; the date stands in a comment."""
        lines = [line for line in await self.owner.read("/export terse") if line and not line.startswith("#")]
        return self.observe("export", label=label, lines=lines)

    def _site(self) -> Path:
        path = self.folder / "agent" / "site.toml"
        if not path.exists():
            config.write_agent_site(
                path.parent,
                self.options.profile,
                self.certificate,
                self.provider.mail.certificate,
                self.hold_s,
                self.bed.folder / "agent.sock",
                self.options.start,
                self.resolvers,
            )
        return path

    async def start_agent(self) -> None:
        """Start the agent's process."""
        if self.options.breakage == "agent-not-restarted" and self.seen_bench("agent stopped"):
            return
        command = [sys.executable, "-m", "edgeagent", "--site", str(self._site()), "run"]
        command = self._new_boot(command) if self.boots else command
        command = self.disk.command(command) if self.disk else command
        self.agent = self.bed.spawn("pi", command, "agent.log", {"PYTHONPATH": str(REPOSITORY)})
        self.observe("agent started")

    async def stop_agent(self, *, kill: bool = False) -> None:
        """End the agent's process."""
        if self.agent is None:
            return
        if self.trap is not None and not kill:
            await self.trap.release()
        if kill:
            self.bed.stop(self.agent)
        else:
            self.agent.terminate()
            await asyncio.to_thread(self.agent.wait, GUARD_S)
        self.agent = None
        self.observe("agent stopped", kill=kill)

    async def start_rival(self) -> None:
        """From the same machine, with its addresses."""
        text = self._site().read_text().replace(f'id = "{config.MAIL_LOGIN}"', f'id = "{RIVAL}"')
        for name in ("state", "agent.sock"):
            text = text.replace(f'/{name}"', f'/rival-{name}"')
        path = self.folder / "agent" / "rival.toml"
        path.write_text(text)
        command = [sys.executable, "-m", "edgeagent", "--site", str(path), "run"]
        self.rival = self.bed.spawn("pi", command, "rival.log", {"PYTHONPATH": str(REPOSITORY)})
        self.observe("rival started")

    async def stop_rival(self) -> None:
        """By a signal that it cannot answer."""
        if self.rival is not None:
            self.bed.stop(self.rival)
            self.rival = None
            self.observe("rival stopped")

    async def note_status(self, label: str, *, rival: bool = False) -> Event:
        """Asked at its control socket."""
        name = "rival-agent.sock" if rival else "agent.sock"
        found: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self.bed.folder / name, limit=1 << 20)
                found = json.loads(await reader.readline())
                writer.close()
        at_s = self.now()
        said = [
            [at_s - event["ago_s"], event["kind"], event["data"].get("thing"), event["data"].get("found")]
            for event in found.get("events", [])
            if event["kind"].startswith("drift ")
        ]
        faults = sorted(found.get("faults", {}))
        answered, rows = bool(found), found.get("rows")
        return self.observe("status", label=label, rival=rival, answered=answered, faults=faults, rows=rows, said=said)

    async def pause_agent(self, seconds: float) -> None:
        """By signals."""
        self.observe("agent paused", seconds=seconds)
        self.agent.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.agent.send_signal(signal.SIGCONT)
        self.observe("agent goes on")

    async def stop_at_record(self, phase: str, timeout_s: float) -> Event | None:
        """By strace, at the end of the store's sync."""
        before = len(self._places())

        def recorded() -> bool:
            fresh = self._places()[before:]
            return bool(fresh) and fresh[-1].get("phase") == phase

        self.trap = RecordTrap(self.agent.pid, self.folder / "strace.log", recorded)
        await self.trap.set()
        call = await self.trap.sprung(timeout_s)
        if call:
            return self.observe("stopped at record", phase=phase, call=call)
        await self.trap.release()
        return None

    def _places(self) -> list[dict[str, Any]]:
        return places(seen_by(self.agent.pid, self.folder / "agent" / "state"))

    async def note_store(self, label: str) -> Event:
        """Read from a copy."""
        folder = seen_by(self.agent.pid, self.folder / "agent" / "state")
        return self._note("store", "store", {"label": label, "places": places(folder), "commits": commits(folder)})

    async def freeze_disk(self) -> float:
        """By fsfreeze."""
        assert self.disk is not None
        await self.disk.freeze(self.agent.pid)
        at_s = self.now()
        self.observe("disk frozen", at_s=at_s)
        self.writing = asyncio.create_task(self._write_to(self.disk))
        return at_s

    async def _write_to(self, disk: StateDisk) -> None:
        await disk.write(self.agent.pid)
        self.observe("disk written")

    async def thaw_disk(self) -> float:
        """By fsfreeze."""
        assert self.disk is not None
        at_s = self.now()
        await self.disk.thaw()
        self.observe("disk thawed", at_s=at_s)
        if self.writing is not None:
            await self.writing
        return at_s

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
            case "flush-disabled":
                await disable_rows(self, "/system/scheduler", "edgeagent:flush")
            case "pin-disabled":
                await disable_rows(self, "/ip/firewall/mangle", "edgeagent:pin-")
            case "guards-disabled":
                await disable_rows(self, "/ip/firewall/filter", "edgeagent:", ("drop",))
            case "names-disabled":
                for menu in ("nat", "filter", "mangle"):
                    await disable_rows(self, f"/ip/firewall/{menu}", "edgeagent:dns")
            case "native-disabled":
                await disable_rows(self, "/ip/route", "edgeagent:native-")
            case _:
                return
        self.observe("broken", how=self.options.breakage)

    async def start_phones(self, phones: Iterable[str], spread_s: float) -> None:
        """Start phones at seeded moments and wait until the registrar has them all."""
        chosen = [spec for spec in STANDARD_PHONES if spec.name in set(phones)]
        chosen = [by_name(spec) for spec in chosen] if self.cache else chosen
        moments = {spec.name: self.random.uniform(0, spread_s) for spec in chosen}

        async def one(name: str) -> None:
            spec = next(spec for spec in chosen if spec.name == name)
            await asyncio.sleep(moments[name])
            phone = Phone(spec, self.bed.spawn, self.folder / "phones", self.log)
            self.phones[name] = phone
            await phone.start()
            await phone.wait_registered()

        try:
            await asyncio.gather(*(one(spec.name) for spec in chosen))
        except TimeoutError as error:
            raise BenchBroken(f"phones did not register on a healthy line; see {self.bed.logs}") from error

    def _new_boot(self, command: list[str]) -> list[str]:
        """The command that runs ``command`` as if the machine had just booted: its boot id and clock are new."""
        name = self.folder / "agent" / f"boot-{self.boots}"
        name.write_text(f"{uuid.UUID(int=self.random.getrandbits(128), version=4)}\n")
        back_s = BOOT_CLOCK_S - int(time.monotonic())
        return ["sh", "-c", NEW_BOOT, str(name), str(back_s), *command]

    async def power(self, box: str, *, on: bool) -> None:
        """One box."""
        boxes = {"router": self._power_router, "agent": self._power_agent}
        boxes |= {"modem": self._power_modem, "phones": self._power_phones}
        if box not in boxes:
            raise CannotRun(f"the virtual bench cannot switch {box}; it can switch {', '.join(boxes)}")
        await boxes[box](on)
        self.observe("power", box=box, on=on)

    async def _power_router(self, on: bool) -> None:
        """Its switch chip goes with it: the hosts of the LAN lose their carrier."""
        assert self.router is not None
        if self.leaks is not None and not on:
            await self.leaks.power_router(on=False)
        if on:
            await asyncio.sleep(ROUTER_BOOT_S)
        run_ip([f"link set lan-{host} {'up' if on else 'down'}" for host in SITE_HOSTS], self.bed.namespace("rtr"))
        await self.router.call("power", on=on)
        while on and (await self.router.call("hello"))["rebooting"]:  # noqa: ASYNC110  (another process cannot tell us)
            await asyncio.sleep(0.05)
        if self.leaks is not None and on:
            await self.leaks.power_router(on=True)

    async def _power_agent(self, on: bool) -> None:
        if not on:
            await self.stop_agent(kill=True)
        elif self.options.breakage != "agent-not-started":
            self.boots += 1
            await self.start_agent()

    async def _power_modem(self, on: bool) -> None:
        if not on:
            await self.unplug("lte")
            await self.cut("lte")
            return
        await asyncio.sleep(MODEM_BOOT_S)
        await self.plug("lte")
        await asyncio.sleep(MODEM_DATA_S)
        await self.restore("lte")

    async def _power_phones(self, on: bool) -> None:
        if on:
            await asyncio.gather(*(phone.start() for phone in self.phones.values()))
        else:
            await stop_phones(list(self.phones.values()))

    async def use_own_disk(self) -> None:
        """In memory, behind a loop device."""
        try:
            self.disk = StateDisk(self.folder / "agent" / "state")
        except (DiskError, OSError) as error:
            raise CannotRun(f"no file system of the agent's own can be made here: {error}") from error

    async def note_usage(self, label: str) -> Event:
        """Read from /proc and from the block device."""
        return self._note_usage(label, self.agent.pid if self.agent else 0)

    def _note_usage(self, label: str, pid: int) -> Event:
        if self.disk is None or self.agent is None:
            raise BenchBroken("no agent is running on a disk of its own; call use_own_disk before it starts")
        return self.observe("usage", label=label, written_bytes=self.disk.written_bytes(self.agent.pid), **usage(pid))

    async def waste(self, what: str, seconds: float) -> None:
        """In the agent's own mount namespace."""
        target = self.folder / "agent" / "state" / "waste"
        command = [
            "nsenter",
            "--mount",
            "--target",
            str(self.agent.pid),
            sys.executable,
            "-c",
            WASTERS[what],
            str(target),
        ]
        process = self.bed.spawn("pi", command, "waste.log")
        self._note_usage(f"{what} wasted from", process.pid)
        await asyncio.sleep(seconds)
        self._note_usage(f"{what} wasted until", process.pid)
        self.bed.stop(process)

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
        await self._break()  # what was broken for `bite` stays so

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        """Over the plain API port, from the agent's host, as the administrator."""

        password = "" if self.provided else PASSWORD

        def make() -> ApiClient:
            return ApiClient(lambda: socket.create_connection((plan.ROUTER_LAN, 8728), GUARD_S), USER, password)

        client = await asyncio.to_thread(inside, self.bed.namespace("pi"), make)
        with contextlib.closing(client):
            return await asyncio.to_thread(client.command, *words)

    async def add_foreign_connections(self, count: int) -> None:
        """Put into the kernel's table: UDP of the PC, answered, to as many hosts as it takes."""
        rows = self.folder / "foreign.conntrack"
        rows.write_text("".join(FOREIGN % divmod(number, 250) for number in range(1, count + 1)))
        process = self.bed.spawn("rtr", ["conntrack", "--load-file", str(rows)], "foreign.log")
        code = await asyncio.to_thread(process.wait, GUARD_S)
        if code != 0:
            raise BenchBroken(f"no foreign connections could be made; see {self.bed.logs / 'foreign.log'}")

    async def poll_naively(self, clients: int, seconds: float) -> None:
        """From the agent's host, as the administrator."""
        end_s = self.now() + seconds

        async def client() -> None:
            while self.now() < end_s:
                await self.router_api("/ip/firewall/connection/print")
                for _ in range(NAIVE_QUESTIONS):  # however slow the large one is on a busy machine
                    await self.router_api("/interface/print")

        await asyncio.gather(*(client() for _ in range(clients)))

    async def note_api_load(self, label: str) -> Event:
        """Asked of the virtual router, its kernel's table and counters of ours there, its own counters, its log."""
        assert self.router is not None
        if not self.watched:
            _nft(self.bed.namespace("rtr"), _watching())
            self.watched = True
        rows = await self.router_sentence("/ip/firewall/connection/print")
        log = await self.router_sentence("/log/print")
        fields = {
            "label": label,
            "rows": len(rows),
            "packet_bytes": dict(_api_connections(rows, "bytes")),
            "packets": dict(_api_connections(rows, "packets")),
            "acks": _acks(self.bed.namespace("rtr")),
            "api_bytes": (await self.router.call("hello"))["api_bytes"],
            "log_lines": sum("user edgeagent" in line["message"] for line in log),
        }
        return self._note("router", "load", fields, self.now())

    async def place_call(self, phone: str, timeout_s: float) -> float | None:
        """Dial, and dial again like a person when nobody answers."""
        end_s = self.now() + timeout_s
        calling = self.phones[phone]

        def answered(event: Event) -> bool:
            # An answer may be so late that it is one to the call given up before.
            return (event["source"], event["event"]) == ("kamailio", "answered") and calling.has_call(event["call_id"])

        while self.now() < end_s:
            asked_s = self.now()
            await calling.dial("far")
            self.observe("dialled", user=phone)
            found = await self.wait(answered, min(ANSWER_S, end_s - asked_s), asked_s)
            if found is not None:
                return float(found["t"])
            await calling.hangup()
        return None

    async def hang_up(self, phone: str) -> None:
        """End the call."""
        await self.phones[phone].hangup()
        self.observe("hung up", user=phone)

    async def in_call(self, phone: str) -> bool:
        """Whether the phone believes itself in a call."""
        return self.phones[phone].call_state is CallState.ESTABLISHED

    async def provider_mail(self, mode: str) -> None:
        """exim takes mail, puts it off, or is not there."""
        await self.provider.mail.set_mode(MailMode(mode))

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
        await self._send_marked("pc", plan.NEUTRAL_TARGETS[2], text, seconds)
        self.observe("lan attempt", text=text)
        await self._note_marks(text)

    async def _send_marked(self, host: str, target: str, text: str, seconds: float) -> None:
        await self.bed.emulator.call("mark", text=text)

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        with contextlib.closing(inside(self.bed.namespace(host), make)) as sender:
            for _ in range(max(1, int(seconds * 20))):
                with contextlib.suppress(OSError):
                    sender.sendto(text.encode() * 4, (target, 4433))
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)

    async def _note_marks(self, text: str) -> None:
        reply = await self.bed.emulator.call("flows")
        found: dict[str, int] = {}
        for row in reply["flows"]:
            found[row["link"]] = found.get(row["link"], 0) + int(row["marked_bytes"].get(text, 0))
        control = any(event["event"] == "leak control" for event in self.seen)
        for link, count in found.items():
            if count:
                self._note("emulator", "marked", {"link": link, "bytes": count, "text": text, "control": control})

    async def note_source(self, host: str, target: str, label: str) -> Event:
        """As the emulator sees them come out of the router; what the ISP drops for its source is seen too."""
        text = f"SOURCE-{label}-{host}".upper()
        await self._send_marked(host, target, text, 0.2)
        rows = (await self.bed.emulator.call("flows"))["flows"]
        marked = [row for row in rows if row["link"] == "wan" and row["dst"] == target and text in row["marked_bytes"]]
        return self.observe(
            "source", host=host, target=target, label=label, seen=sorted({row["src"] for row in marked})
        )

    async def ping_from_site(self, target: str) -> None:
        """One ping with the host's main address."""

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)

        with contextlib.closing(inside(self.bed.namespace("pi"), make)) as sender:
            sender.sendto(ECHO_REQUEST, (target, 0))
        await asyncio.sleep(0.2)

    async def start_leaks(self) -> None:
        """By programs in the site's namespaces."""
        ipv6 = await self._speaks_ipv6()
        secret = f"{self.random.getrandbits(24):06x}"
        self.leaks = LeakRig(self.bed, self.folder / "leaks", secret, ipv6=ipv6)
        (self.folder / "leaks").mkdir(exist_ok=True)
        await self.leaks.start()
        told = {one.name: {"why": one.why, "preventable": one.preventable} for one in self.leaks.attempts}
        self.observe("attempts", attempts=told, ipv6=ipv6)

    async def _speaks_ipv6(self) -> bool:
        """A router whose packages have no IPv6 forwards none."""
        try:
            await self.router_sentence("/ipv6/firewall/filter/print")
        except ControlError:
            return False
        return True

    async def open_flows(self, label: str, *, fast: bool) -> None:
        """By the PC."""
        assert self.leaks is not None
        await self.leaks.open(label, fast=fast)

    async def begin_attempts(self, label: str) -> None:
        """All senders."""
        assert self.leaks is not None
        await self.leaks.begin(label)
        self.observe("attempts begin", label=label)

    async def end_attempts(self, label: str) -> None:
        """All senders."""
        assert self.leaks is not None
        self.observe("attempted", label=label, sent=await self.leaks.end())

    async def judge_leaks(self, control_s: float) -> None:
        """From the emulator's recording."""
        assert self.leaks is not None
        await self.leaks.judge(control_s, functools.partial(self._note, "carrier"))

    async def check_voice(self, label: str) -> Event:
        """The phones that are started, and the host of the first."""
        if self.media is None:
            places = [f"udp:{plan.SBC}:{port}" for port in MEDIA_PORTS.values()]
            self.media = EchoHost("echo-media", "prov", places, self.bed.spawn, self.folder)
            await self.media.start()

        def enter() -> socket.socket:
            return inside(self.bed.namespace("ph1"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

        checks = VoiceChecks(self.phones, self.wait, self.now, enter)
        return self.observe("voice checked", label=label, worked=await checks.run())

    async def ask_by_name(self) -> None:
        """The router's cache asks the ISP's resolver."""
        self.resolvers = (plan.PROVIDER_DNS,)
        self.cache = NameCache(self.bed.spawn, self.folder, plan.ISP_DNS)
        await self.cache.start()

    async def ask_name(self, host: str, server: str, label: str) -> Event:
        """By UDP, from its namespace."""
        await self.bed.emulator.call("mark", text=label)

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        answered = False
        with contextlib.closing(inside(self.bed.namespace(host), make)) as client:
            client.setblocking(False)
            client.connect((server, 53))
            for _ in range(QUESTIONS):
                with contextlib.suppress(OSError, TimeoutError):
                    client.send(question(f"{label}.{SIP_NAME}"))
                    await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), QUESTION_S)
                    answered = True
        rows = (await self.bed.emulator.call("flows", link="lte"))["flows"]
        size = sum(int(row["marked_bytes"].get(label, 0)) for row in rows)
        return self.observe("question", host=host, server=server, label=label, answered=answered, lte_bytes=size)

    async def ask(self, instruction: str) -> None:
        """Nobody is there."""
        raise CannotRun(f"the virtual bench has no person to ask: {instruction}")

    async def stop(self) -> None:
        """End every program and write the one event file."""
        if self.disk is not None:
            with contextlib.suppress(Exception):
                await self.disk.thaw()
        with contextlib.suppress(Exception):
            await self.stop_rival()
            await self.stop_agent()
        for phone in self.phones.values():
            await phone.stop()
        for part in (self.leaks, self.media, self.cache):
            if part is not None:
                await part.stop()
        await self.provider.stop()
        for server in self.lease_servers:
            await server.stop()
        await asyncio.sleep(0.1)
        for tail in self.tails:
            await tail.stop()
        if self.router is not None:
            await self.router.close()
        if self.disk is not None:
            self.disk.close()


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


def _api_connections(rows: Iterable[dict[str, str]], what: str) -> Iterator[tuple[str, int]]:
    """The connections to the router's API, with the bytes or packets of both directions."""
    for row in rows:
        address, _, port = row.get("dst-address", "").partition(":")
        if address == plan.ROUTER_LAN and port in API_PORTS:
            yield f"{API_PORTS[port]} {row['src-address']}", int(row[f"orig-{what}"]) + int(row[f"repl-{what}"])


def _watching() -> str:
    """Rules that count the pure acknowledgements to and from the API, and do nothing else."""
    lines = [f"add table ip {WATCH}", *(f"add counter ip {WATCH} {name}" for name in API_PORTS.values())]
    for hook, port in (("input", "dport"), ("output", "sport")):
        lines.append(f"add chain ip {WATCH} {hook} {{ type filter hook {hook} priority -450; }}")
        for number, name in API_PORTS.items():
            pure = f"tcp {port} {number} ip length <= {ACK_BYTES} tcp flags == ack"
            lines.append(f'add rule ip {WATCH} {hook} {pure} counter name "{name}"')
    return "\n".join(lines)


def _acks(namespace: str) -> dict[str, dict[str, int]]:
    """By service, the pure acknowledgements so far."""
    listed = json.loads(_nft(namespace, "--json", "list", "counters", "table", "ip", WATCH))["nftables"]
    counters = [entry["counter"] for entry in listed if "counter" in entry]
    return {one["name"]: {"packets": one["packets"], "bytes": one["bytes"]} for one in counters}


def _nft(namespace: str, *words: str) -> str:
    command = ["ip", "netns", "exec", namespace, "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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
