"""The leak suite's part of the virtual bench: senders, hosts to answer them, the recording and its judgement."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from hil.bench import BenchBroken
from hil.virtual import addresses as plan
from hil.virtual.control import ControlClient
from hil.virtual.echo_host import EchoHost
from hil.virtual.emulator_tape import frames
from hil.virtual.leaks import ATTEMPTS, FLOW_PORT, RESOLVER, SINK_PORT, WEB, Attempt, Markers
from hil.virtual.leaks_judge import DOWN, UP, Frame, judge
from hil.virtual.leaks_send import source6
from hil.virtual.name_cache import NameCache
from hil.virtual.provider_names import ISP_NAMES, NameServer
from hil.virtual.provider_programs import GUARD_S, wait_until
from hil.virtual.topology import Bed
from hil.virtual.topology_netns import inside, run_ip, set_sysctls

REPOSITORY: Final = Path(__file__).resolve().parents[2]
ROLES: Final = ("pc", "ph2", "pi", "rtr")
SHOWN_MAX: Final = 60  # kinds of unclassified packets that are told one by one
Note = Callable[[str, dict[str, Any]], object]


class LeakRig:
    """What a bench needs for the leak suite. Every packet of LTE is recorded from :meth:`start` on."""

    def __init__(self, bed: Bed, folder: Path, secret: str, *, ipv6: bool) -> None:
        self.bed = bed
        self.folder = folder
        self.markers = Markers(secret)
        self.ipv6 = ipv6
        self.attempts = [attempt for attempt in ATTEMPTS if ipv6 or not attempt.ipv6]
        self.senders: dict[str, ControlClient] = {}
        self.label = ""  # of the situation in which attempts are being sent now
        self.router_on = False
        self.hushed = False
        self.tape = folder / "lte.pcap"
        self.cache = NameCache(bed.spawn, folder, RESOLVER)
        self.resolver = NameServer("dns-public", "inet", RESOLVER, bed.spawn, folder, ISP_NAMES)
        ports = [("tcp", FLOW_PORT), ("udp", FLOW_PORT), ("sink", SINK_PORT)]
        self.web = EchoHost("echo-web", "inet", [f"{kind}:{WEB}:{port}" for kind, port in ports], bed.spawn, folder)

    async def start(self) -> None:
        """Everything."""
        await self.bed.emulator.call("record", link="lte", path=str(self.tape))
        if self.ipv6:
            self._hush(on=True)
            self._speak_ipv6()
        # An owner's multicast and directed broadcasts are forwarded where nothing forbids it.
        set_sysctls(self.bed.namespace("rtr"), {"ipv4/conf/all/bc_forwarding": "1"})
        set_sysctls(self.bed.namespace("rtr"), {f"ipv4/conf/{plan.BRIDGE}/bc_forwarding": "1"})
        await asyncio.gather(self.web.start(), self.resolver.start(), self.cache.start(announce=self.ipv6))
        for role in ROLES:
            self.senders[role] = await self._sender(role)
        await self.power_router(on=True)

    async def stop(self) -> None:
        """End what is not the bed's to end."""
        for client in self.senders.values():
            await client.close()
        for part in (self.web, self.resolver, self.cache):
            await part.stop()

    async def power_router(self, *, on: bool) -> None:
        """A router that is off sends nothing of its own and forwards no multicast; what it does in booting counts.

        On: returns when the PC has its IPv6 default from it, for before that it can send none of what needs one. A
        kernel asks for it every four seconds, and has to be answered.
        """
        self.router_on = on
        if not on:
            await self.senders["rtr"].call("end")
            await self.senders["rtr"].call("relay_off")
            return
        relay = {"inner": plan.BRIDGE, "outer": self.bed.lte_port, "source": plan.PC}
        await self.senders["rtr"].call("relay", **relay)
        if self.label:
            await self._begin("rtr")
        if self.ipv6:
            await wait_until(self._pc_has_default, "the PC's IPv6 default")

    def _pc_has_default(self) -> bool:
        def asks() -> bool:
            try:
                return bool(source6())
            except OSError:
                return False

        return inside(self.bed.namespace("pc"), asks)

    async def _sender(self, role: str) -> ControlClient:
        control = self.bed.folder / f"leaks-{role}.sock"
        options = ["--role", role, "--secret", self.markers.secret, "--lte-port", self.bed.lte_port]
        command = [sys.executable, "-m", "hil.virtual.leaks_send", *options, "--control", str(control)]
        process = self.bed.spawn(role, command, f"leaks-{role}.log", {"PYTHONPATH": str(REPOSITORY)})
        end_s = asyncio.get_running_loop().time() + GUARD_S
        while process.poll() is None and asyncio.get_running_loop().time() < end_s:
            with contextlib.suppress(OSError):
                return await ControlClient.connect(control)
            await asyncio.sleep(0.02)
        raise BenchBroken(f"the sender of {role} did not start; see {self.bed.logs / f'leaks-{role}.log'}")

    def _speak_ipv6(self) -> None:
        """The LAN, the router and the carrier speak IPv6; the PC learns its address and default from the router."""
        on = {"ipv6/conf/all/disable_ipv6": "0", "ipv6/conf/default/disable_ipv6": "0"}
        router, carrier = self.bed.namespace("rtr"), self.bed.namespace("car")
        set_sysctls(router, {**on, "ipv6/conf/all/forwarding": "1"})
        set_sysctls(carrier, on)
        learn = {"ipv6/conf/eth0/accept_ra": "1", "ipv6/conf/eth0/addr_gen_mode": "0"}
        set_sysctls(self.bed.namespace("pc"), {**learn, **on})
        run_ip(
            [
                f"addr add {plan.LAN_V6} dev {plan.BRIDGE} nodad",
                f"addr add fe80::1/64 dev {plan.BRIDGE} nodad",
                f"addr add {plan.ROUTER_LTE_V6}/64 dev {self.bed.lte_port} nodad",
                f"addr add fe80::2/64 dev {self.bed.lte_port} nodad",
                f"route add default via {plan.CARRIER_GATEWAY_V6} dev {self.bed.lte_port}",
            ],
            router,
        )
        run_ip([f"addr add {plan.CARRIER_GATEWAY_V6}/64 dev lte0 nodad"], carrier)

    def _hush(self, *, on: bool) -> None:
        """While the rules do not stand yet, the kernel's own announcements of its new addresses stay off the line."""
        chain = "ip6 setup out"
        hook = "{ type filter hook output priority 0; }"
        rule = f"oifname {self.bed.lte_port} drop"
        made = f"add table ip6 setup; add chain {chain} {hook}; add rule {chain} {rule}"
        lines = made if on else "delete table ip6 setup"
        command = ["ip", "netns", "exec", self.bed.namespace("rtr"), "nft", lines]
        subprocess.run(command, check=True, capture_output=True)
        self.hushed = on

    async def open(self, label: str, *, fast: bool) -> None:
        """Flows of a PC to the internet that are to be carried over into a situation."""
        names = [one.name for one in self.attempts if one.how == "flow" and bool(one.where.get("fast")) == fast]
        await self.senders["pc"].call("open", label=label, names=names)

    async def begin(self, label: str) -> None:
        """All senders send all of their attempts from now on."""
        self.label = label
        if self.hushed:
            self._hush(on=False)
        for role in ROLES:
            if role != "rtr" or self.router_on:
                await self._begin(role)

    async def _begin(self, role: str) -> None:
        names = [one.name for one in self.attempts if one.sender == role]
        await self.senders[role].call("begin", label=self.label, names=names)

    async def end(self) -> dict[str, int]:
        """Stop; how often each attempt was sent."""
        self.label = ""
        sent: dict[str, int] = {}
        for client in self.senders.values():
            sent |= (await client.call("end"))["sent"]
        return sent

    async def judge(self, control_s: float, note: Note) -> None:
        """Read the recording and tell what is in it."""
        await self.bed.emulator.call("record", link="lte", path=str(self.tape))
        recorded = await asyncio.to_thread(self._recorded)
        findings = await asyncio.to_thread(judge, recorded, self.markers, control_s)
        for (attempt, label), tally in findings.marked.items():
            told = {"attempt": attempt.name, "label": label, "preventable": attempt.preventable}
            note("marked", {**told, "packets": tally.packets, "bytes": tally.size})
        for event, tallies in (("class", findings.classes), ("unclassified", findings.unclassified)):
            ranked = sorted(tallies.items(), key=lambda item: (item[0][0], -item[1].packets))
            for (control, direction, name), tally in ranked if event == "class" else _shown(ranked):
                told = {"name": name, "direction": direction, "control": control}
                note(event, {**told, "packets": tally.packets, "bytes": tally.size})
        note("recorded", {"frames": len(recorded), "strange": _names(findings.strange_attempts)})

    def _recorded(self) -> list[Frame]:
        found = [
            Frame(t, direction, data)
            for direction in (UP, DOWN)
            for t, data in frames(self.tape.with_name(f"{self.tape.name}.{direction}"))
        ]
        return sorted(found, key=lambda frame: frame.t)


def _shown(ranked: list[Any]) -> list[Any]:
    """Those that are told one by one, of the judged part and of the control each."""
    return [item for control in (False, True) for item in [one for one in ranked if one[0][0] is control][:SHOWN_MAX]]


def _names(attempts: Iterable[Attempt]) -> list[str]:
    return sorted(attempt.name for attempt in attempts)
