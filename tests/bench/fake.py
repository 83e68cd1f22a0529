"""A bench in memory with a clock of its own: a scripted product, so that every figure is known beforehand."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.bench import PHONES, Bench, Binding, Event, Match, Options
from hil.events import PHONE_LEASE, SITE_LEASE
from hil.scenario import OpenBench
from hil.virtual import addresses as plan

HOLD_S = 30.0
AUDIENCES = ("customer@provider.example", "support@provider.example")
LISTS = "/ip/firewall/address-list"


@dataclass(frozen=True)
class Product:
    """How the product behaves. ``immune``: no breakage stops it; ``false_alarm_s``: after trouble, without a cause."""

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
        detection_s = self.product.detection_s
        if detection_s is not None and (not self.options.breakage or self.product.immune):
            self._switch(self.time_s + detection_s)
        return self.time_s

    async def restore(self, line: str) -> float:
        self._return(self.time_s + HOLD_S)
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

    async def provider_options(self, *, ignore: bool) -> None:
        self._trouble()

    def _trouble(self) -> None:
        if self.product.false_alarm_s is not None:
            self._switch(self.time_s + self.product.false_alarm_s)

    async def capture(self, label: str) -> Event:
        self.captures += 1
        sip = {"packets": 10, "bytes": 1000, "voice_packets": 10 + self.captures * self.product.strays}
        return self.add(self.time_s, "emulator", "totals", label=label, totals={"wan/up/sip": sip})

    async def call_gap(self, label: str) -> None:
        gap = {"link": "lte", "max_gap_s": self.product.call_gap_s, "packets": 1000}
        self.add(self.time_s, "emulator", "max_gaps", label=label, gaps=[gap, gap])

    async def reset_gaps(self) -> None:
        return None

    async def start_site(self, phones: Iterable[str] = PHONES, spread_s: float = 5.0) -> None:
        if self.product.error is not None:
            raise self.product.error
        await self.start_agent()
        await self.start_phones(phones, spread_s)
        self.observe("site up")

    async def start_phones(self, phones: Iterable[str], spread_s: float) -> None:
        self.time_s += spread_s

    async def start_agent(self) -> None:
        ping = {"protocol": "icmp", "icmp_type": "echo"}
        self.flow(self.time_s, "wan", "icmp", plan.SBC, **ping)
        self.flow(self.time_s, "lte", "icmp", plan.NEUTRAL_TARGETS[2], **ping)
        self.observe("agent started")

    async def stop_agent(self, *, kill: bool = False) -> None:
        self.observe("agent stopped", kill=kill)

    async def power(self, box: str, *, on: bool) -> None:
        return None

    async def router_sentence(self, *words: str) -> list[dict[str, str]]:
        return [{".id": "*9", "comment": "edgeagent:out-lte-rest"}] if words[0].endswith("/print") else []

    async def router_misbehave(self, kind: str, **fields: Any) -> None:
        return None

    async def router_behave(self) -> None:
        return None

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        return []

    async def place_call(self, phone: str, timeout_s: float) -> float | None:
        self.time_s += 0.5
        return self.time_s

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

    async def ping_from_site(self, target: str) -> None:
        self.flow(self.time_s, "wan", "icmp", target, protocol="icmp", icmp_type="echo")
        self.time_s += 0.2

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
