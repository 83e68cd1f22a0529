"""A bench in memory with a clock of its own: a scripted product, so that every figure is known beforehand."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.bench import HOLD_S, PHONES, Bench, Binding, CannotRun, Event, Match, Options
from hil.checks import WAN_TARGETS
from hil.events import PHONE_LEASE, SITE_LEASE
from hil.scenario import OpenBench
from hil.virtual import addresses as plan

AUDIENCES = ("customer@provider.example", "support@provider.example")
LISTS = "/ip/firewall/address-list"


@dataclass(frozen=True)
class Product:
    """How the product behaves. ``immune``: no breakage stops it; ``false_alarm_s``: after trouble, without a cause.

    ``native``: phones leave a dead line without the agent. ``blind``: the bench's readers see no usage.
    ``asks_per_s`` and below: what it does to the router's API while nothing happens; ``bare_acks``: for each sentence,
    packets that acknowledge and carry nothing.
    """

    detection_s: float | None = 1.93
    switch_s: float = 0.02
    bound_s: float = 30.0
    drain_s: float = 5.0
    home_s: float = 2.0
    call_gap_s: float = 0.04
    false_alarm_s: float | None = None
    strays: int = 0
    leaks: bool = True
    error: Exception | None = None
    immune: bool = False
    rss_mib: float = 30.0
    cpu_share: float = 0.01
    written_bytes_per_s: float = 100.0
    causes: int = 0
    blind: bool = False
    native: bool = False
    decides_s: float = 1.0
    asks_per_s: float = 0.5
    reply_bytes: int = 1000
    api_connections: int = 3
    reconnects: int = 0
    bare_acks: int = 0


class FakeBench:
    """One site that exists on paper."""

    def __init__(self, options: Options, product: Product) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.product = product
        self.time_s = 1000.0
        self.timeline: list[Event] = []
        self.sentence_count = 0
        self.captures = 0
        self.dead = False
        self.powered: dict[str, bool] = {}
        self.foreign = 0
        self.sessions = 0
        self.loaded_s = 0.0
        self.packet_bytes: dict[str, int] = {}
        self.packets: dict[str, int] = {}
        self.acked = 0

    def add(self, t: float, source: str, event: str, **fields: Any) -> Event:
        """Something happens at ``t``, maybe later than now."""
        made: Event = {"t": t, "source": source, "event": event, **fields}
        self.timeline.append(made)
        return made

    def flow(self, t: float, link: str, kind: str, dst: str, **fields: Any) -> None:
        """The first packet of a flow from the site."""
        what = {"link": link, "direction": "up", "class": kind, "dst": dst, "verdict": "delivered", **fields}
        self.add(t, "emulator", "flow_started", **what)

    def sentence(self, t: float, *words: str, ret: str = "") -> None:
        """A sentence of the agent and the router's reply."""
        self.sentence_count += 1
        key = {"session": 1, "sentence": self.sentence_count}
        self.add(t, "router", "sentence", words=list(words), **key)
        self.add(t + 0.001, "router", "reply", outcome="done", **key, **({"ret": ret} if ret else {}))

    def now(self) -> float:
        return self.time_s

    def observe(self, event: str, **fields: Any) -> Event:
        return self.add(self.time_s, "bench", event, **fields)

    def events(self) -> list[Event]:
        found = [event for event in self.timeline if event["t"] <= self.time_s]
        return sorted(found, key=lambda event: float(event["t"]))

    async def wait(self, match: Match, timeout_s: float, since_s: float = 0.0) -> Event | None:
        end_s = self.time_s + max(0.0, timeout_s)
        for event in sorted(self.timeline, key=lambda event: float(event["t"])):
            if since_s <= event["t"] <= end_s and match(event):
                self.time_s = max(self.time_s, event["t"])
                return event
        self.time_s = end_s
        return None

    async def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    async def cut(self, line: str, direction: str = "both") -> float:
        if line == "wan":
            self.dead = True
        if line == "wan" and self.powered.get("router", True) and self._would_switch():
            self._switch(self.time_s + (self.product.detection_s or 0.0))
        return self.time_s

    def _would_switch(self) -> bool:
        return self.product.detection_s is not None and (not self.options.breakage or self.product.immune)

    async def restore(self, line: str) -> float:
        if self.dead and self.powered.get("router", True):
            self._return(self.time_s + HOLD_S)
        self.dead = False
        return self.time_s

    unplug, plug = cut, restore

    def _switch(self, t: float) -> None:
        self.sentence(t, f"{LISTS}/add", f"=list={SITE_LEASE}", "=address=0.0.0.0/0", "=timeout=1m", ret="*1")
        self.flow(t + self.product.switch_s, "lte", "rtp", plan.FAR_END)
        for user in PHONES:
            self._register(t + self.product.bound_s, user, plan.ROUTER_LTE)
        self._mails(t + 10.0, "failover", "")

    def _return(self, t: float) -> None:
        for user, address in zip(PHONES, plan.PHONES, strict=True):
            row = f"*{user}"
            self.sentence(t, f"{LISTS}/add", f"=list={PHONE_LEASE}", f"=address={address}", ret=row)
            self.sentence(t + self.product.drain_s, f"{LISTS}/remove", f"=.id={row}")
            self._register(t + self.product.drain_s + self.product.home_s, user, plan.ROUTER_WAN)
        self.sentence(t + 0.1, f"{LISTS}/remove", "=.id=*1")
        self._mails(t + 1.0, "restored", "<7.failover.site@example>")

    def _register(self, t: float, user: str, address: str) -> None:
        self.add(t, "kamailio", "registered", user=user, address=address, port=5060, transport="udp", expires_s=60)

    def _mails(self, t: float, kind: str, references: str) -> None:
        for audience in AUDIENCES:
            self.add(t, "exim", "delivered", to=audience, message_id=f"<7.{kind}.site@example>", references=references)

    async def impair(self, line: str, **fields: Any) -> float:
        self._trouble()
        return self.time_s

    async def provider_mail(self, mode: str) -> None:
        self._trouble()

    async def provider_options(self, *, ignore: bool) -> None:
        self._trouble()

    def _trouble(self) -> None:
        if self.product.false_alarm_s is not None:
            self._switch(self.time_s + self.product.false_alarm_s)

    async def capture(self, label: str) -> Event:
        self.captures += 1
        sip = {"packets": 10, "bytes": 1000, "voice_packets": 10 + self.captures * self.product.strays}
        voice = [event["t"] for event in self.events() if event.get("class") == "rtp" and event["link"] == "lte"]
        count = int(50 * (self.time_s - min(voice, default=self.time_s)))
        rtp = {"packets": count, "bytes": 200 * count, "voice_packets": count}
        totals = {"wan/up/sip": sip, "lte/up/rtp": rtp}
        return self.add(self.time_s, "emulator", "totals", label=label, totals=totals)

    async def call_gap(self, label: str) -> None:
        mine = self.product.call_gap_s
        kept = {"link": "lte", "max_media_gap_s": mine, "max_gap_s": mine, "last_delivered_t": self.time_s}
        lost = {"link": "wan", "max_media_gap_s": 0.02, "max_gap_s": 0.03, "last_delivered_t": self.time_s - 3.0}
        gap = {**(lost if label == "call lost" else kept), "packets": 1000}
        self.add(self.time_s, "emulator", "max_gaps", label=label, gaps=[gap, gap])

    async def note_stalls(self, label: str) -> None:
        return None

    async def reset_gaps(self) -> None:
        return None

    async def probe_gap(self, label: str) -> None:
        gaps = [{"link": "wan", "dst": dst, "max_gap_s": 1.0, "last_t": self.time_s} for dst in WAN_TARGETS]
        self.add(self.time_s, "emulator", "probe_gaps", label=label, gaps=gaps)

    async def look(self, stage: str) -> Event:
        voice = {line: {"entered_s": None, "delivered_s": None} for line in ("wan", "lte")}
        return self.observe("look", stage=stage, leases=[], voice=voice)

    async def start_site(
        self,
        phones: Iterable[str] = PHONES,
        spread_s: float = 5.0,
        *,
        hold_s: float = HOLD_S,
        own_disk: bool = False,
        provisioned: bool = False,
    ) -> None:
        if self.product.error is not None:
            raise self.product.error
        await self.start_agent()
        await self.start_phones(phones, spread_s)
        self.observe("site up")

    async def provision(self, *words: str, as_owner: bool = False) -> Event:
        return self.observe("provision", words=list(words), code=0, output="", began_s=self.time_s)

    async def export(self, label: str) -> Event:
        return self.observe("export", label=label, lines=[])

    async def start_phones(self, phones: Iterable[str], spread_s: float) -> None:
        self.time_s += spread_s

    async def start_agent(self) -> None:
        ping = {"protocol": "icmp", "icmp_type": "echo"}
        self.flow(self.time_s, "wan", "icmp", plan.SBC, **ping)
        self.flow(self.time_s, "lte", "icmp", plan.NEUTRAL_TARGETS[2], **ping)
        self.observe("agent started")

    async def stop_agent(self, *, kill: bool = False) -> None:
        self.observe("agent stopped", kill=kill)

    async def pause_agent(self, seconds: float) -> None:
        self.time_s += seconds

    async def stop_at_record(self, phase: str, timeout_s: float) -> Event | None:
        return None

    async def freeze_disk(self) -> float:
        return self.time_s

    async def thaw_disk(self) -> float:
        return self.time_s

    async def note_store(self, label: str) -> Event:
        commits = [{"at_s": self.time_s - 60.0 * n, "kinds": ["facts", "path"]} for n in range(self.product.causes)]
        commits.append({"at_s": self.time_s - 5.0, "kinds": ["facts"]})
        return self.add(self.time_s, "store", "store", label=label, places=[], commits=commits)

    async def power(self, box: str, *, on: bool) -> None:
        """Whatever comes last: the product decides, and phones are bound so long after it, where a path works."""
        self.powered = {**self.powered, box: on}
        self.observe("power", box=box, on=on)
        up = {name for name, powered in self.powered.items() if powered}
        works = not self.dead or self.product.native or ("agent" in up and self._would_switch())
        if not on:
            return
        if up >= {"router", "agent"} and box in ("router", "agent"):
            self._decides("edge-alive")
        if up >= {"router", "agent", "modem"} and box != "phones" and self.dead and works:
            self._decides(SITE_LEASE)
        if up >= {"router", "modem", "phones"} and works:
            for user in PHONES:
                where = plan.ROUTER_LTE if self.dead else plan.ROUTER_WAN
                self._register(self.time_s + self.product.bound_s, user, where)

    def _decides(self, name: str) -> None:
        words = (f"{LISTS}/add", f"=list={name}", "=address=0.0.0.0/0", "=timeout=1m")
        self.sentence(self.time_s + self.product.decides_s, *words, ret="*1")

    async def use_own_disk(self) -> None:
        return None

    async def note_usage(self, label: str) -> Event:
        mine = self.product
        return self._usage(label, mine.rss_mib, self.time_s * mine.cpu_share, self.time_s * mine.written_bytes_per_s)

    async def waste(self, what: str, seconds: float) -> None:
        """Seen as what it is, unless the reader is blind."""
        seen = 0.0 if self.product.blind else 1.0
        for when in ("from", "until"):
            self._usage(f"{what} wasted {when}", 64.0 * seen, self.time_s * seen, self.time_s * 16384 * seen)
            self.time_s += seconds

    def _usage(self, label: str, rss_mib: float, cpu_s: float, written_bytes: float) -> Event:
        rss = {"rss_bytes": rss_mib * (1 << 20), "rss_peak_bytes": rss_mib * (1 << 20)}
        return self.observe("usage", label=label, cpu_s=cpu_s, written_bytes=written_bytes, **rss)

    async def router_sentence(self, *words: str) -> list[dict[str, str]]:
        return [{".id": "*9", "comment": "edgeagent:out-lte-rest"}] if words[0].endswith("/print") else []

    async def router_misbehave(self, kind: str, **fields: Any) -> None:
        return None

    async def router_behave(self) -> None:
        return None

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        return []

    async def add_foreign_connections(self, count: int) -> None:
        self.foreign = count
        if self.options.breakage != "agent-not-started":
            for _ in range(self.product.api_connections):
                self._session(self.time_s, "api-ssl")
        self.loaded_s = self.time_s

    def _session(self, t: float, service: str) -> int:
        self.sessions += 1
        self.add(t, "router", "session_opened", session=self.sessions, service=service, peer=plan.PI)
        return self.sessions

    async def poll_naively(self, clients: int, seconds: float) -> None:
        """Seen as what it is, unless the reader is blind."""
        for second in range(0 if self.product.blind else int(seconds)):
            for _ in range(clients):
                at_s = self.time_s + second
                session = self._session(at_s, "api")
                self.packet_bytes[f"api {plan.PI}:{session}"] = 800_000
                self.add(at_s, "router", "sentence", session=session, sentence=1, words=["/login"])
                self.add(at_s, "router", "sentence", session=session, sentence=2, words=["/x/print"])
                self.add(at_s + 0.9, "router", "session_closed", session=session)
        self.time_s += seconds

    async def note_api_load(self, label: str) -> Event:
        """What the agent did since the last note comes before it."""
        asked = int((self.time_s - self.loaded_s) * self.product.asks_per_s)
        mine = [event["session"] for event in self.timeline if event.get("service") == "api-ssl"]
        for number in range(asked if mine else 0):
            at_s = self.loaded_s + number / self.product.asks_per_s
            self.add(at_s, "router", "sentence", session=mine[0], sentence=number, words=["/x/print"])
            name = f"api-ssl {plan.PI}:{mine[0]}"
            self.packet_bytes[name] = self.packet_bytes.get(name, 0) + self.product.reply_bytes
            self.packets[name] = self.packets.get(name, 0) + 2
            self.acked += 1
        for _ in range(self.product.reconnects):
            session = self._session(self.time_s - 1.0, "api-ssl")
            self.add(self.time_s - 0.5, "router", "session_closed", session=session)
        self.loaded_s = self.time_s
        bare = self.product.bare_acks * self.acked
        found = {
            "rows": self.foreign,
            "packets": {name: count + (bare if "ssl" in name else 0) for name, count in self.packets.items()},
            "packet_bytes": {
                name: size + (52 * bare if "ssl" in name else 0) for name, size in self.packet_bytes.items()
            },
            "acks": {"api-ssl": {"packets": bare, "bytes": 52 * bare}, "api": {"packets": 0, "bytes": 0}},
            "api_bytes": {},
            "log_lines": 0,
        }
        return self.add(self.time_s, "router", "load", label=label, **found)

    async def start_rival(self) -> None:
        return None

    async def stop_rival(self) -> None:
        return None

    async def note_status(self, label: str, *, rival: bool = False) -> Event:
        return self.observe("status", label=label, rival=rival, answered=False, faults=[], rows=None, said=[])

    async def place_call(self, phone: str, timeout_s: float) -> float | None:
        self.time_s += 0.5
        alone = self.dead and not self.powered.get("agent", True) and not self.product.native
        return None if alone else self.time_s

    async def hang_up(self, phone: str) -> None:
        return None

    async def provider_silent(self, *, silent: bool) -> None:
        return None

    async def bindings(self) -> list[Binding]:
        return []

    async def voice_flows(self) -> list[dict[str, str]]:
        return []

    async def lan_attempt(self, text: str, *, seconds: float = 1.0) -> None:
        self.time_s += seconds
        self.observe("lan attempt", text=text)
        if self.product.leaks and any(event["event"] == "leak control" for event in self.timeline):
            self.add(self.time_s, "emulator", "marked", link="lte", bytes=900, text=text, control=True)

    async def note_source(self, host: str, target: str, label: str) -> Event:
        return self.observe("source", host=host, target=target, label=label, seen=[])

    async def ping_from_site(self, target: str) -> None:
        self.flow(self.time_s, "wan", "icmp", target, protocol="icmp", icmp_type="echo")
        self.time_s += 0.2

    # What crosses LTE is judged from a recording, of which there is none in memory.

    async def start_leaks(self) -> None:
        raise CannotRun("there is no link to record")

    async def open_flows(self, label: str, *, fast: bool) -> None:
        return None

    async def begin_attempts(self, label: str) -> None:
        return None

    async def end_attempts(self, label: str) -> None:
        return None

    async def judge_leaks(self, control_s: float) -> None:
        return None

    async def check_voice(self, label: str) -> Event:
        return self.observe("voice checked", label=label, worked={})

    async def ask_by_name(self) -> None:
        raise CannotRun("there is nobody to ask")

    async def ask_name(self, host: str, server: str, label: str) -> Event:
        return self.observe("question", host=host, server=server, label=label, answered=False, lte_bytes=0)

    async def ask(self, instruction: str) -> None:
        return None


def opener(product: Product | None = None) -> OpenBench:
    """What opens fake benches with this product; each writes its events like a real one."""

    @contextlib.asynccontextmanager
    async def open_bench(options: Options, folder: Path) -> AsyncIterator[Bench]:
        folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  (a test has nothing else to do meanwhile)
        bench = FakeBench(options, product or Product())
        try:
            yield bench
        finally:
            text = "".join(json.dumps(event) + "\n" for event in bench.events())
            (folder / "events.jsonl").write_text(text)

    return open_bench
