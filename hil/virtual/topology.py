"""One bed: the namespaces of a virtual site, its two carriers and its provider, with the link emulator between them.

    ph1..ph6, pc, pi --veth-- [bridge] rtr [wan port] --emulator "wan"-- isp --+
                                           [LTE port] --emulator "lte"-- car --+-- inet --veth-- prov

``rtr`` gets devices only: its addresses, routes and rules are those of the virtual RouterOS. No bed has a link outward,
and none touches the namespace it is started from. What a bed owns is found by its name (``eb-<bed_id>-*``) and by its
folder, which names the process that made it; ``clean_stale`` removes the beds whose process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from hil.virtual import addresses as plan
from hil.virtual import topology_netns as netns
from hil.virtual.control import ControlClient, ControlError
from hil.virtual.provider_programs import GUARD_S

SITE_HOSTS: Final = ("pi", "pc", "ph1", "ph2", "ph3", "ph4", "ph5", "ph6")
ROLES: Final = ("rtr", *SITE_HOSTS, "isp", "car", "inet", "prov")
# The emulator makes its devices in a namespace of its own, so that they never show up in the machine's.
EMULATOR_ROLE: Final = "emu"
WAN, LTE = "wan", "lte"

# A cable line and a middling LTE cell. One-way delays; the queue is about 0.16 s at the LTE rate.
DEFAULT_LINES: Final[Mapping[str, Mapping[str, Any]]] = {
    WAN: {"delay_ms": 8},
    LTE: {"delay_ms": 35, "rate_kbit": 10000, "queue_bytes": 200_000},
}

# Between inet and its neighbours (RFC 6598 addresses: they answer nothing and nobody asks for them).
_TRANSIT: Final = {"isp": ("100.64.1.1", "100.64.1.2"), "car": ("100.64.2.1", "100.64.2.2")}
_REPOSITORY: Final = Path(__file__).resolve().parents[2]
# Its address is given (as the factory gives "admin-mac"): else it would change with the ports that come and go.
_BRIDGE_MADE: Final = f"link add {plan.BRIDGE} address 02:00:5e:00:53:fe type bridge stp_state 0 mcast_snooping 0"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_counter = itertools.count()


class BedError(RuntimeError):
    """A bed could not be built or one of its programs did not start; the text names the log."""


def beds_folder() -> Path:
    """Where the beds of this user have their folders; private, and gone with the next boot."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(base) / f"edgeagent-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise BedError(f"{folder} belongs to somebody else; remove it")
    return folder


def new_bed_id(prefix: str = "b") -> str:
    """A short id no other process uses: this process's number and a counter, in base 36."""
    while True:
        bed_id = f"{prefix}{_base36(os.getpid())}{_base36(next(_counter) % 1296).rjust(2, '0')}"
        if not (beds_folder() / bed_id).exists():
            return bed_id


def clean_stale() -> list[str]:
    """Remove what crashed benches left; returns the bed ids. A bed whose owner lives is left alone."""
    removed = []
    for folder in sorted(beds_folder().iterdir()):
        if folder.name.startswith(".") or _owner_lives(folder):
            continue
        netns.delete(netns.existing(f"eb-{folder.name}-"))
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder.name)
    return removed


async def wait_for_emulator(control: Path, process: subprocess.Popen[bytes]) -> ControlClient:
    """Connect to an emulator that is starting; raises :class:`BedError` when it died or took too long."""
    deadline = time.monotonic() + GUARD_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            client = await ControlClient.connect(control)
            try:
                await client.call("hello")
            except (ControlError, ConnectionError):
                await client.close()
            else:
                return client
        await asyncio.sleep(0.005)
    state = "is silent" if process.poll() is None else f"ended with {process.returncode}"
    raise BedError(f"the emulator {state}; see emulator.log beside {control}")


@dataclasses.dataclass(slots=True)
class _Program:
    role: str
    process: subprocess.Popen[bytes]


class Bed:
    """The namespaces and processes of one virtual site.

    ``folder`` holds the owner's mark, the control sockets and, unless ``artifacts`` names another place, the logs; it
    goes with the bed. ``emulator`` is the control client, set by :meth:`up`.
    """

    emulator: ControlClient

    def __init__(
        self, bed_id: str, profile: str = "generic", *, artifacts: Path | None = None, ipv6: bool = False
    ) -> None:
        if profile not in plan.UPLINK_PORTS:
            raise BedError(f"no profile {profile!r}; there are {', '.join(plan.UPLINK_PORTS)}")
        self.bed_id = bed_id
        self.profile = profile
        self.ipv6 = ipv6
        self.wan_port, self.lte_port = plan.UPLINK_PORTS[profile]
        self.folder = _own_folder(bed_id)
        self.logs = artifacts or self.folder
        self.logs.mkdir(parents=True, exist_ok=True)
        self.control_path = self.folder / "emulator.sock"
        self.events_path = self.logs / "emulator.events"
        self._programs: list[_Program] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def up(
        cls,
        *,
        profile: str = "generic",
        seed: int = 1,
        bed_id: str | None = None,
        artifacts: Path | None = None,
        lines: Mapping[str, Mapping[str, Any]] | None = None,
        ipv6: bool = False,
    ) -> AsyncIterator[Bed]:
        """A built bed with its emulator running. ``lines``: impairment fields by link, laid over the defaults."""
        bed = cls(bed_id or new_bed_id(), profile, artifacts=artifacts, ipv6=ipv6)
        try:
            bed.build()  # not in a thread: a cancelled start would tear down beside a thread still building
            await bed.start_emulator(seed, lines or {})
            yield bed
        finally:
            if hasattr(bed, "emulator"):
                await bed.emulator.close()
            bed.teardown()

    def namespace(self, role: str) -> str:
        """The namespace of a role."""
        return f"eb-{self.bed_id}-{role}"

    def build(self) -> None:
        """Make the namespaces and everything in them but the emulated links."""
        names = {role: self.namespace(role) for role in (*ROLES, EMULATOR_ROLE)}
        netns.run_ip(f"netns add {name}" for name in names.values())
        for role, name in names.items():
            netns.set_sysctls(name, _sysctls(role, self.ipv6))
        for role, lines in _batches(names).items():
            netns.run_ip(lines, names[role])

    async def start_emulator(self, seed: int, lines: Mapping[str, Mapping[str, Any]]) -> None:
        """Start the links "wan" and "lte" and give their far ends their addresses."""
        config = self.folder / "emulator.json"
        config.write_text(json.dumps(self._emulator_config(seed, lines), indent=1))
        arguments = ["--config", config, "--control", self.control_path, "--events", self.events_path]
        command = [sys.executable, "-m", "hil.virtual.emulator", *map(str, arguments)]
        process = self.spawn(EMULATOR_ROLE, command, "emulator.log", {"PYTHONPATH": str(_REPOSITORY)})
        self.emulator = await wait_for_emulator(self.control_path, process)
        netns.run_ip([f"addr add {plan.ISP_GATEWAY}/24 dev wan0"], self.namespace("isp"))
        netns.run_ip([f"addr add {plan.CARRIER_GATEWAY}/24 dev lte0"], self.namespace("car"))

    def spawn(
        self, role: str, argv: Iterable[str], log_name: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in a role's namespace, in a session of its own; its output is appended to ``logs/log_name``.

        ``env`` is laid over the bench's own. The program dies with the thread that called this (call it from the main
        thread); its children die with :meth:`teardown` or the next :func:`clean_stale`.
        """
        command = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.namespace(role), *argv]
        with (self.logs / log_name).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._programs.append(_Program(role, process))
        return process

    def stop(self, process: subprocess.Popen[bytes], sig: int = signal.SIGKILL) -> None:
        """Signal a spawned program's whole group and wait for the program itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sig)
        process.wait(GUARD_S)

    def teardown(self) -> None:
        """Kill everything in the bed's namespaces, remove them and the folder. May be called twice."""
        for program in self._programs:
            # Those still on the way into their namespace are not members of it yet.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)
        netns.delete(netns.existing(f"eb-{self.bed_id}-"))
        for program in self._programs:
            program.process.wait(GUARD_S)
        self._programs.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _emulator_config(self, seed: int, lines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        def link(name: str, port: str, far: tuple[str, str], prefix: str) -> dict[str, Any]:
            line = {**DEFAULT_LINES[name], **lines.get(name, {})}
            return {
                "name": name,
                "a": {"netns": self.namespace("rtr"), "device": port},
                "b": {"netns": self.namespace(far[0]), "device": far[1]},
                "allow_source": prefix,
                "impair": {"up": line, "down": line},
            }

        return {
            "seed": seed,
            "links": [
                link(WAN, self.wan_port, ("isp", "wan0"), plan.WAN_PREFIX),
                link(LTE, self.lte_port, ("car", "lte0"), plan.LTE_PREFIX),
            ],
        }


def _sysctls(role: str, ipv6: bool) -> dict[str, str]:
    forwards = role in ("rtr", "isp", "car", "inet")
    values = {
        "ipv4/conf/all/rp_filter": "0",
        "ipv4/conf/default/rp_filter": "0",
        "ipv4/ip_forward": "1" if forwards else "0",
    }
    if role == "pi":
        values["ipv4/ping_group_range"] = "0 2147483647"  # so that the agent may ping without being root
    if role in ("isp", "car", "inet"):
        values |= {"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0"}
    if Path("/proc/sys/net/ipv6").is_dir():
        off = "0" if ipv6 else "1"
        values |= {"ipv6/conf/all/disable_ipv6": off, "ipv6/conf/default/disable_ipv6": off}
        values |= {"ipv6/conf/all/accept_ra": "0", "ipv6/conf/default/accept_ra": "0"}
        values |= {"ipv6/conf/default/addr_gen_mode": "1"}  # no link-local address of its own accord
    return values


def _batches(names: Mapping[str, str]) -> dict[str, list[str]]:
    """The ``ip`` commands of each role; devices with an end elsewhere come from the role that is named first."""
    batches: dict[str, list[str]] = {role: ["link set lo up"] for role in ROLES}
    batches["rtr"] += [_BRIDGE_MADE, f"link set {plan.BRIDGE} up"]
    for host in SITE_HOSTS:
        batches["rtr"] += [
            f"link add lan-{host} type veth peer name eth0 netns {names[host]}",
            f"link set lan-{host} master {plan.BRIDGE} up",
        ]
    hosts = {"pi": plan.PI, "pc": plan.PC, **{f"ph{n}": address for n, address in enumerate(plan.PHONES, 1)}}
    for host, address in hosts.items():
        batches[host] += [f"addr add {address}/24 dev eth0", "link set eth0 up"]
        if host == "pi":
            batches[host] += [f"addr add {alias}/29 dev eth0" for alias in (plan.ALIAS_PRIMARY, plan.ALIAS_LTE)]
        batches[host].append(f"route add default via {plan.ROUTER_LAN}")
    batches["inet"] += [
        f"link add prov type veth peer name eth0 netns {names['prov']}",
        f"addr add {plan.PROVIDER_GATEWAY}/26 dev prov",
        "link set prov up",
        *(
            f"addr add {address}/32 dev lo"
            for address in (*plan.NEUTRAL_TARGETS, plan.NEUTRAL_GATEWAY, plan.WEB_HOST, plan.PUBLIC_DNS)
        ),
    ]
    for role, prefix in (("isp", plan.WAN_PREFIX), ("car", plan.LTE_PREFIX)):
        near, far = _TRANSIT[role]
        batches["inet"] += [
            f"link add {role} type veth peer name inet netns {names[role]}",
            f"addr add {near}/30 dev {role}",
            f"link set {role} up",
            # Each carrier's addresses have one way back: that is what makes a wrong source or path show.
            f"route add {prefix} via {far}",
        ]
        batches[role] += [f"addr add {far}/30 dev inet", "link set inet up", f"route add default via {near}"]
    batches["isp"].append(f"addr add {plan.ISP_DNS}/32 dev lo")
    batches["prov"] += [
        *(f"addr add {a}/26 dev eth0" for a in (plan.SBC, plan.FAR_END, plan.MAIL_SERVER, plan.PROVIDER_DNS)),
        "link set eth0 up",
        f"route add default via {plan.PROVIDER_GATEWAY}",
    ]
    # The makers of veth pairs first: the other ends must be there when their namespaces' turn comes.
    return {role: batches[role] for role in ("rtr", "inet", *(role for role in ROLES if role not in ("rtr", "inet")))}


def _own_folder(bed_id: str) -> Path:
    """Make the bed's folder with its owner's mark already inside, so that it is never seen unmarked."""
    folder = beds_folder() / bed_id
    unfinished = Path(tempfile.mkdtemp(prefix=f".{bed_id}.", dir=beds_folder()))
    owner = {"pid": os.getpid(), "started": _start_time(os.getpid())}
    (unfinished / "owner.json").write_text(json.dumps(owner))
    try:
        unfinished.rename(folder)
    except OSError as error:
        shutil.rmtree(unfinished)
        raise BedError(f"there is a bed {bed_id!r} already ({folder})") from error
    return folder


def _owner_lives(folder: Path) -> bool:
    try:
        owner = json.loads((folder / "owner.json").read_text())
        return bool(_start_time(owner["pid"]) == owner["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); tells reused numbers apart."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rsplit(")", 1)[1].split()
    if fields[0] in ("Z", "X"):
        raise ProcessLookupError(f"process {pid} has ended")
    return fields[19]


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
