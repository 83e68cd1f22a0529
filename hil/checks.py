"""The standing checkers: every scenario is judged by them, from events that the agent had no hand in.

Each returns ``held``, ``not exercised`` or ``broken: ...``. What makes each bite is a control in the scenario's own
run; see ``controls``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hil import events as seen
from hil.bench import Event

Checker = Callable[[Sequence[Event]], str]
HELD, IDLE = "held", "not exercised"
# The agent probes these by one path only; a ping to one of them on the other line went astray.
WAN_TARGETS = ("203.0.113.10", "203.0.113.129", "203.0.113.130")
LTE_TARGETS = ("203.0.113.131",)
# What else the agent sends by LTE: its mails.
SBC, ODD_MEDIA_PORT = "203.0.113.10", 49171
MAIL_SERVER, MAIL_PORTS = "203.0.113.40", (465, 587)
VOICE_AND_ITS_NEEDS = (*seen.VOICE_CLASSES, "dns", "arp", "dhcp")
AUDIENCES = ("customer@", "support@")
WHOLE = (["failover", "restored"], ["summary"])  # what one incident makes, for each audience


def p1_one_path(events: Sequence[Event]) -> str:
    """Clause P1: two seconds (five on 6.49) after the lease no voice packet of the site enters the old line."""
    if not _captured(events):
        return IDLE
    strays = 0
    for name in seen.VOICE_CLASSES:
        strays += _grown(events, "after switch", "before return", f"wan/up/{name}", "voice_packets")
    return HELD if strays == 0 else f"broken: {strays} voice packets entered the primary after the switch was over"


def p2_never_stranded(events: Sequence[Event]) -> str:
    """Clause P2: while a path works, no voice packet is lost to a dead line or to a carrier that refuses its source."""
    if not _captured(events):
        return IDLE
    lost = 0
    for line in ("wan", "lte"):
        for name in seen.VOICE_CLASSES:
            for reason in ("blackhole", "spoofed", "carrier"):
                lost += _grown(events, "after switch", "before return", f"{line}/up/{name}", f"dropped_{reason}")
    return HELD if lost == 0 else f"broken: {lost} voice packets went to a path that could not carry them"


def p5_not_without_cause(events: Sequence[Event]) -> str:
    """Clause P5: no lease is taken before the story gave a cause, and none again once the line is back."""
    causes = _causes_s(events)
    back = [float(event["at_s"]) for event in seen.of(events, "bench", "restored")]
    taken = [event["t"] for event in seen.leases_taken(events) if not _caused(float(event["t"]), causes, back)]
    started = seen.marked(events, "site up") is not None
    return f"broken: {len(taken)} failovers without a cause" if taken else HELD if started else IDLE


def p10_probes_stay(events: Sequence[Event]) -> str:
    """Clause P10: a probe of one path never travels by the other, whatever the lease says."""
    own, strays = _probes(events, _until(events, "strays begin"))
    if strays:
        return f"broken: {strays} probes on the wrong line"
    return HELD if own else IDLE


def m1_voice_only(events: Sequence[Event]) -> str:
    """Clause M1: nothing of the LAN but voice crosses LTE; judged by a marker that a PC sends in every situation."""
    leaked = [event for event in seen.of(events, "emulator", "marked", link="lte") if not event["control"]]
    count = sum(int(event["bytes"]) for event in leaked)
    other = _other_classes(events)
    if count or other:
        return f"broken: {count} marked bytes, other classes on LTE: {', '.join(sorted(other)) or 'none'}"
    control_s = _until(events, "leak control")
    tried = any(event["t"] < control_s for event in seen.of(events, "bench", "lan attempt"))
    return HELD if tried else IDLE


def n1_one_of_each(events: Sequence[Event]) -> str:
    """Clause N1: one "in failover" and one "restored" per audience for each incident, in that order.

    Or one summary. The last incident may be open, if the story ended so. Where the agent was killed, a mail may come
    twice (clause N3), and an incident may have become two.
    """
    if seen.marked(events, "mails due") is None:
        return IDLE
    cuts, back = seen.of(events, "bench", "cut"), seen.of(events, "bench", "restored")
    crashed = bool(seen.of(events, "bench", "agent stopped", kill=True))
    for audience in AUDIENCES:
        mails = [mail for mail in seen.of(events, "exim", "delivered") if audience in mail["to"]]
        if crashed:
            mails = list({mail["message_id"]: mail for mail in mails[::-1]}.values())[::-1]
        threads: dict[str, list[Event]] = {}
        for mail in mails:
            threads.setdefault(str(mail["message_id"]).partition(f".{_kind(mail)}.")[0], []).append(mail)
        told = [[_kind(mail) for mail in thread] for thread in threads.values()]
        open_last = len(cuts) > len(back) and told[-1:] == [["failover"]]
        count, most = len(told), float("inf") if crashed else max(1, len(cuts))
        if not max(1, len(cuts)) <= count <= most or not all(one in WHOLE for one in told[: count - open_last]):
            return f"broken: {audience} was sent {', '.join(map(_kind, mails)) or 'nothing'}"
        for thread in threads.values():
            if len(thread) > 1 and thread[0]["message_id"] not in str(thread[1]["references"]):
                return f"broken: {audience}'s second mail does not refer to the first"
    return HELD


CHECKERS: dict[str, Checker] = {
    "M1": m1_voice_only,
    "N1": n1_one_of_each,
    "P1": p1_one_path,
    "P2": p2_never_stranded,
    "P5": p5_not_without_cause,
    "P10": p10_probes_stay,
}


def judge(events: Sequence[Event]) -> dict[str, str]:
    """What every checker says of a run."""
    return {name: checker(events) for name, checker in CHECKERS.items()}


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Whether the controls of a run bit: a checker that cannot fail proves nothing.

    M1: with the standing rules off, the same attempt leaks. P10: a ping sent on purpose by the wrong path is seen. P5:
    a line that really dies is left, in scenarios that expect no failover.
    """
    found: dict[str, str] = {}
    if seen.marked(events, "leak control") is not None:
        leaked = sum(int(event["bytes"]) for event in seen.of(events, "emulator", "marked", link="lte", control=True))
        found["M1"] = "bit" if leaked else "did not bite: nothing leaked with the rules off"
    strays_s = seen.marked(events, "strays begin")
    if strays_s is not None:
        _, strays = _probes([event for event in events if event["t"] >= strays_s], float("inf"))
        found["P10"] = "bit" if strays else "did not bite: a ping by the wrong line was not seen"
    control_s = seen.marked(events, "control cut")
    if control_s is not None:
        moved = seen.voice_started(events, "lte", control_s)
        found["P5"] = "bit" if moved else "did not bite: voice did not leave a line that really died"
    return found


def _probes(events: Sequence[Event], until_s: float) -> tuple[int, int]:
    """Delivered or not: pings to probe targets on their own line, and on the wrong one."""
    own = strays = 0
    for event in seen.of(events, "emulator", "flow_started", direction="up", protocol="icmp"):
        if event["t"] >= until_s or event.get("icmp_type") != "echo":
            continue
        wrong = LTE_TARGETS if event["link"] == "wan" else WAN_TARGETS
        right = WAN_TARGETS if event["link"] == "wan" else LTE_TARGETS
        own += event["dst"] in right
        strays += event["dst"] in wrong
    return own, strays


def _other_classes(events: Sequence[Event]) -> set[str]:
    """Classes that entered LTE at the site, delivered or not, and are neither voice nor the agent's own."""
    control_s = _until(events, "leak control")
    return {
        str(event["class"])
        for event in seen.of(events, "emulator", "flow_started", link="lte", direction="up")
        if event["t"] < control_s and event["verdict"] != "carrier" and _is_foreign(event)
    }


def _is_foreign(flow: Event) -> bool:
    if flow["class"] == "icmp":
        return flow.get("icmp_type") == "echo" and flow["dst"] not in LTE_TARGETS
    if flow["class"] == "other":
        return not (_is_mail(flow) or _is_odd_voice(flow))
    return flow["class"] not in VOICE_AND_ITS_NEEDS


def _is_mail(flow: Event) -> bool:
    return flow.get("dst") == MAIL_SERVER and flow.get("dport") in MAIL_PORTS


def _is_odd_voice(flow: Event) -> bool:
    """Voice in a form that the emulator has no class for: media beyond the relay's ports, and later fragments."""
    to_voice = flow.get("protocol") == "udp" and flow.get("dst") == SBC
    return to_voice and flow.get("dport") in (ODD_MEDIA_PORT, 0)


def _until(events: Sequence[Event], label: str) -> float:
    """When the story noted ``label``; never, if it did not."""
    at_s = seen.marked(events, label)
    return float("inf") if at_s is None else at_s


def _causes_s(events: Sequence[Event]) -> list[float]:
    """When causes began: by the line's own time too, for the story notes it a moment after the router may know."""
    moments = [float(event["t"]) for event in seen.of(events, "bench", "cause")]
    return moments + [
        float(event["at_s"]) for label in ("cut", "control cut") for event in seen.of(events, "bench", label)
    ]


def _caused(at_s: float, causes: Sequence[float], back: Sequence[float]) -> bool:
    """Whether a cause came before, and the line has not come back since."""
    return any(cause <= at_s and not any(cause <= back_s <= at_s for back_s in back) for cause in causes)


def _captured(events: Sequence[Event]) -> bool:
    """Whether the story switched and counted what crossed the lines from then to the return."""
    return seen.marked(events, "switched") is not None and bool(_windows(events))


def _windows(events: Sequence[Event]) -> list[list[Event]]:
    """The pairs of captures, one for each time that the story was away."""
    found = [seen.of(events, "emulator", "totals", label=label) for label in ("after switch", "before return")]
    return [list(pair) for pair in zip(*found, strict=False)]


def _kind(mail: Event) -> str:
    """Which notice a mail is; the Message-ID names it."""
    return next(
        (kind for kind in ("failover", "restored", "summary") if f".{kind}." in mail["message_id"]), "something else"
    )


def _grown(events: Sequence[Event], before: str, after: str, key: str, counter: str) -> int:
    return sum(seen.grown(window, before, after, key, counter) or 0 for window in _windows(events))
