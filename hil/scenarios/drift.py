"""Hands at the router: what was provisioned is edited in every way, and is put right, or named where that is a fight.

A person edits over the router's API, several things at a time, each once. What counts is what the router's own rows
say, against those of a moment when all was well, and which thing the agent named for it, of which kind. Then one thing
is edited again; a backup from before provisioning is restored; a second agent comes, waits, leads, and is waited for.
In the end the agents are dead, and the same edits stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _right
from hil.virtual import addresses as plan

RIGHT_S = 60.0
LOOK_S = 1.0
ROUND_S = 48.0  # in which the agent looks at everything once
QUIET_S = 54.0  # longer than that
STAYS_S = 54.0
SETTLE_S = 12.0
ANSWER_S = 30.0
LEAD_S = 45.0  # a lease of thirty seconds lapses, and is then looked for each five
BACKUP = "before-provisioning"
ALIVE = "edge-alive"
FILTER, NAT, MANGLE = "/ip/firewall/filter", "/ip/firewall/nat", "/ip/firewall/mangle"
LISTS, ROUTES, SETTING = "/ip/firewall/address-list", "/ip/route", "setting"
ORDERED = (FILTER, NAT, MANGLE)
MENUS = (
    *ORDERED,
    *(LISTS, ROUTES, "/system/scheduler", "/queue/simple", "/interface/list", "/interface/list/member"),
    "/ip/address",
)
BY_VERSION = {"7.22": ("/routing/rule", "/routing/table"), "6.49": ("/ip/route/rule",)}
# Adopted settings: the menu, which row, the attribute.
SETTINGS = (
    ("/ip/firewall/connection/tracking", None, "udp-timeout"),
    ("/ip/firewall/connection/tracking", None, "udp-stream-timeout"),
    ("/ip/firewall/service-port", "sip", "disabled"),
    ("/ip/neighbor/discovery-settings", None, "discover-interface-list"),
)
LEARNT = "edgeagent:edge-phones/"  # devices that the agent gives back when it has learnt of them: nobody's wish
# What a row shows beside its configuration.
LIVE = frozenset(
    """.id active bytes creation-time dynamic ecmp gateway-status hw-offloaded immediate-gw inactive invalid
    last-started next-run packets queued-bytes queued-packets rate run-count start-date static total-bytes total-packets
    total-rate dropped local-address connect""".split()  # noqa: SIM905
)

MEASURES = (
    Measure("edits", "", None, "info"),
    Measure("kinds", "", None, "info"),
    Measure("put_right_s", "s", RIGHT_S),
    Measure("alone_right_s", "s", RIGHT_S),
    Measure("named_by_their_code", "", 0, "equal"),
    Measure("everything_back_s", "s", RIGHT_S),
    Measure("left_after_the_second_edit", "", 1, "equal"),
    Measure("fight_named_s", "s", RIGHT_S),
    Measure("findings_in_quiet", "", 0, "equal"),
    Measure("other_leaders_at_once", "", 0, "equal"),
    Measure("changes_of_leader", "", 2, "equal"),
)


@dataclass(frozen=True)
class Edit:
    """One thing done by hand. ``kind`` and ``thing``: what the agent has to call it."""

    name: str
    menu: str
    kind: str
    thing: str
    words: tuple[str, ...]


# --- the edits ---------------------------------------------------------------------------------------------------


class Hands:
    """A person with the router's password."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.rules, self.lte = "/ip/route/rule", plan.UPLINK_PORTS[bench.options.profile][1]
        if bench.options.router == "7.22":
            self.rules = "/routing/rule"

    async def row(self, menu: str, comment: str) -> str:
        """The id of the first row whose comment begins like this."""
        rows = await self.bench.router_sentence(f"{menu}/print")
        return next(row[".id"] for row in rows if row.get("comment", "").startswith(f"edgeagent:{comment}"))

    async def first(self, menu: str) -> str:
        """The id of the menu's first row."""
        rows = await self.bench.router_sentence(f"{menu}/print")
        return next(row[".id"] for row in rows if row.get("dynamic") != "true")

    async def fasttrack(self) -> str:
        """The id of the owner's rule that takes flows past all others."""
        rows = await self.bench.router_sentence(f"{FILTER}/print")
        return next(row[".id"] for row in rows if row["action"] == "fasttrack-connection")

    async def of_row(self, name: str, menu: str, comment: str, kind: str, verb: str, *words: str) -> Edit:
        """An edit of one of our rows."""
        row_id = await self.row(menu, comment)
        return Edit(name, menu, kind, f"{menu} {comment}", (f"{menu}/{verb}", f"=.id={row_id}", *words))

    async def at_once(self) -> list[Edit]:
        """The first batch: each of another thing."""
        voice = f"edge-voip/{plan.VOICE_PREFIX}"
        copy = ("=chain=srcnat", "=action=masquerade", f"=out-interface={self.lte}", "=comment=edgeagent:out-lte")
        return [
            await self.of_row("row deleted", MANGLE, "born-lte", "deleted", "remove"),
            await self.of_row("row disabled", FILTER, "voice-out", "disabled", "disable"),
            await self.of_row("attribute changed", FILTER, "unasked-wan", "changed", "set", "=action=accept"),
            await self.of_row("matcher added", FILTER, "out-lte-rest", "attribute added", "set", "=protocol=icmp"),
            Edit("row duplicated", NAT, "duplicated", f"{NAT} out-lte", (f"{NAT}/add", *copy)),
            await self.of_row("masquerade removed", NAT, "voice-out-wan", "deleted", "remove"),
            await self.of_row("prefix of the provider removed", LISTS, voice, "deleted", "remove"),
            await self.of_row("routing rule deleted", self.rules, "own-lte", "deleted", "remove"),
            await self.of_row(
                "gateway changed", ROUTES, "default-edge-lte", "changed", "set", "=gateway=198.51.100.77"
            ),
            await self.of_row("script changed", "/system/scheduler", "flush", "changed", "set", "=on-event=:put 1"),
            await self.of_row("queue disabled", "/queue/simple", "throttle-lte", "disabled", "disable"),
            self._setting("SIP helper enabled", "/ip/firewall/service-port", "sip", "disabled", "enable"),
            self._setting("UDP timer put back", "/ip/firewall/connection/tracking", "", "udp-timeout", "10s"),
        ]

    async def later(self) -> list[Edit]:
        """The second batch: orders, and what else stands in the way of the first."""
        first = {menu: await self.first(menu) for menu in ORDERED}
        above = ("=chain=srcnat", "=action=accept", "=dst-address=198.18.0.1", f"=place-before={first[NAT]}")
        stray = ("=chain=forward", "=action=accept", "=dst-address=198.18.0.2", "=comment=edgeagent:of-nobody")
        fast = (f"=numbers={await self.fasttrack()}", f"=destination={first[FILTER]}")
        native = f"native-lte-{plan.VOICE_PREFIX}"
        host = f"edge-agent/{plan.MAIL_SERVER}"
        found = [
            Edit("fasttrack on top", FILTER, "reordered", f"{FILTER} order", (f"{FILTER}/move", *fast)),
            Edit("row of nobody", FILTER, "unknown row", f"{FILTER} of-nobody", (f"{FILTER}/add", *stray)),
            Edit("foreign rule above", NAT, "reordered", f"{NAT} order", (f"{NAT}/add", *above)),
            Edit(
                "rows out of order",
                MANGLE,
                "reordered",
                f"{MANGLE} order",
                (f"{MANGLE}/move", f"=numbers={first[MANGLE]}"),
            ),
            await self.of_row("route deleted", ROUTES, native, "deleted", "remove"),
            await self.of_row("list entry changed", LISTS, host, "changed", "set", "=address=203.0.113.41"),
            await self.of_row("port off its list", "/interface/list/member", "backup-lte", "deleted", "remove"),
            self._setting("neighbours told", "/ip/neighbor/discovery-settings", "", "discover-interface-list", "all"),
        ]
        if self.bench.options.router == "7.22":
            found.append(
                await self.of_row("table removed", "/routing/table", "table-edge-lte", "deleted", "remove"),
            )
        return found

    def _setting(self, name: str, menu: str, row: str, attribute: str, value: str) -> Edit:
        words = (f"{menu}/enable", f"=numbers={row}") if row else (f"{menu}/set", f"={attribute}={value}")
        return Edit(name, menu, SETTING, f"{menu}[{row}].{attribute}", words)

    async def do(self, edit: Edit) -> None:
        """By hand, over the router's API. Noted before: the agent may have seen it before the answer is here."""
        fields = {"name": edit.name, "menu": edit.menu, "kind": edit.kind, "thing": edit.thing}
        self.bench.observe("edit", **fields)
        await self.bench.router_api(*edit.words)


# --- the story ---------------------------------------------------------------------------------------------------


async def story(bench: Bench) -> None:
    """Quiet, two batches, a fight, a backup, two agents, and nobody."""
    hands = Hands(bench)
    await bench.router_sentence("/system/backup/save", f"=name={BACKUP}", "=dont-encrypt=yes")
    await bench.start_site(("p1", "p4"))
    await bench.sleep(SETTLE_S)
    bench.observe("all is well", rows=await _rows(bench))
    await _status(bench, "quiet begins")
    await bench.sleep(QUIET_S)
    await _status(bench, "quiet ends")
    await _edited(bench, hands, "first batch", await hands.at_once())
    await _edited(bench, hands, "second batch", await hands.later())
    await bench.sleep(bench.random.uniform(0.0, ROUND_S))  # alone, at any moment of the agent's round
    alone = await hands.of_row("edited alone", FILTER, "drill-back", "disabled", "disable")
    await _edited(bench, hands, "alone", [alone])
    await _fight(bench, hands)
    await _restored(bench)
    await _two_agents(bench)
    await _control(bench, hands)


async def _edited(bench: Bench, hands: Hands, label: str, edits: Sequence[Edit]) -> None:
    for edit in edits:
        await hands.do(edit)
    await _until_right(bench, label, bench.now())


async def _until_right(bench: Bench, label: str, since_s: float) -> None:
    """Look at the router and ask the agent each second, until all is as it was and the agent knows it.

    Where that does not come about in time the story has lost its meaning.
    """
    while bench.now() < since_s + RIGHT_S + 5.0:
        look = await _look(bench, label)
        status = await bench.note_status(label)
        if not look["wrong"] and status["answered"] and not (status["rows"] or {}).get("differing", 1):
            return
        await bench.sleep(LOOK_S)
    raise _right.NotRight(label)


async def _status(bench: Bench, label: str, *, rival: bool = False) -> None:
    """Note what an agent says of itself, asking again for a while: on a busy machine an answer may not come in time."""
    end_s = bench.now() + ANSWER_S
    while not (await bench.note_status(label, rival=rival))["answered"] and bench.now() < end_s:
        await bench.sleep(LOOK_S)


async def _fight(bench: Bench, hands: Hands) -> None:
    """What was put right is changed again: it is left as the person has it, and named."""
    again = await hands.of_row("changed again", "/system/scheduler", "flush", "disabled", "disable")
    await hands.do(again)
    since_s = bench.now()
    while bench.now() < since_s + RIGHT_S:
        status = await bench.note_status("fight")
        if "router_rows_fought_over" in status["faults"]:
            bench.observe("fight named", after_s=status["t"] - since_s)
            break
        await bench.sleep(LOOK_S)
    await bench.sleep(3.0)
    await _look(bench, "fight")
    await _status(bench, "fight")


async def _restored(bench: Bench) -> None:
    """Everything of ours is gone with a reboot."""
    bench.observe("strays begin")  # without our rows the probes have no way of their own, until those are there again
    await bench.ping_from_site(plan.NEUTRAL_TARGETS[2])
    await bench.router_sentence("/system/backup/load", f"=name={BACKUP}")
    bench.observe("restored backup")
    since_s = bench.now()
    await bench.sleep(LOOK_S)
    await _until_right(bench, "backup", since_s)


async def _two_agents(bench: Bench) -> None:
    """The second waits while the first leads, leads once it is gone, and is waited for by the first."""
    await bench.start_rival()
    await _watch_leader(bench, SETTLE_S)
    await bench.stop_agent(kill=True)
    await _watch_leader(bench, LEAD_S)
    await bench.start_agent()
    await _watch_leader(bench, SETTLE_S)
    await _status(bench, "two agents")
    await _status(bench, "two agents", rival=True)


async def _watch_leader(bench: Bench, seconds: float) -> None:
    end_s = bench.now() + seconds
    while bench.now() < end_s:
        rows = await bench.router_sentence(f"{LISTS}/print")
        bench.observe("leader", names=[row["comment"] for row in rows if row["list"] == ALIVE])
        await bench.sleep(LOOK_S)


async def _control(bench: Bench, hands: Hands) -> None:
    """With both agents dead the same edits stay."""
    await bench.stop_rival()
    await bench.stop_agent(kill=True)
    bench.observe("agents dead")
    for edit in (await hands.at_once())[:4]:
        await hands.do(edit)
    await bench.sleep(STAYS_S)
    await _look(bench, "control")


# --- what the router's rows say ----------------------------------------------------------------------------------


async def _look(bench: Bench, label: str) -> Event:
    """Note which menus differ from when all was well; all of them while the router is away."""
    well = seen.of(bench.events(), "bench", "all is well")[-1]["rows"]
    try:
        found = await _rows(bench)
    except Exception:  # noqa: BLE001  (whatever a bench says when its router is rebooting)
        found = {}
    return bench.observe("rows", label=label, wrong=sorted(menu for menu in well if well[menu] != found.get(menu)))


async def _rows(bench: Bench) -> dict[str, list[list[str]]]:
    """By menu: our rows with all their attributes, in order and with what stands above; and the adopted settings."""
    found: dict[str, list[list[str]]] = {}
    for menu in (*MENUS, *BY_VERSION[bench.options.router]):
        rows = [row for row in await bench.router_sentence(f"{menu}/print") if row.get("dynamic") != "true"]
        ours = [
            [*([str(place)] if menu in ORDERED else []), *_attributes(row)]
            for place, row in enumerate(rows)
            if row.get("comment", "").startswith("edgeagent:") and not row["comment"].startswith(LEARNT)
        ]
        found[menu] = ours if menu in ORDERED else sorted(ours)
    for menu, name, attribute in SETTINGS:
        rows = await bench.router_sentence(f"{menu}/print")
        values = [row[attribute] for row in rows if name is None or row.get("name") == name]
        found.setdefault(menu, []).append([attribute, *values])
    return found


def _attributes(row: dict[str, str]) -> list[str]:
    return sorted(f"{name}={value}" for name, value in row.items() if name not in LIVE)


# --- figures -----------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> Samples:
    """From the router's rows and from what the agent said of them."""
    edits = [edit for edit in seen.of(events, "bench", "edit") if edit["t"] < _dead_s(events)]
    once = [edit for edit in edits if edit["name"] != "changed again"]
    alone = [edit for edit in once if edit["name"] == "edited alone"]
    right = [right_s for edit in once if (right_s := _right_after(events, edit)) is not None]
    unnamed = [edit["name"] for edit in once if not _named(events, edit)]
    found: Samples = {
        "edits": [float(len(edits))],
        "kinds": [float(len({edit["name"] for edit in edits}))],
        "put_right_s": right if len(right) == len(once) else [],
        "alone_right_s": [right_s for edit in alone if (right_s := _right_after(events, edit)) is not None],
        "named_by_their_code": [float(len(unnamed))] if edits else [],
        "fight_named_s": [float(event["after_s"]) for event in seen.of(events, "bench", "fight named")],
        "findings_in_quiet": _quiet(events),
        "left_after_the_second_edit": _left(events),
    }
    leaders = [event["names"] for event in seen.of(events, "bench", "leader")]
    if leaders:
        found["other_leaders_at_once"] = [float(max(len(names) - 1 for names in leaders if names))]
        found["changes_of_leader"] = [float(_changes(leaders))]
    restored = seen.of(events, "bench", "restored backup")
    if restored:
        back_s = _all_right_after(events, "backup", float(restored[-1]["t"]))
        named = _said(events, "everything", "all rows gone", float(restored[-1]["t"]))
        found["everything_back_s"] = [back_s] if back_s is not None and named else []
    return found


def _dead_s(events: Sequence[Event]) -> float:
    at_s = seen.marked(events, "agents dead")
    return float("inf") if at_s is None else at_s


def _right_after(events: Sequence[Event], edit: Event) -> float | None:
    """When the menu of the edit was as it had been, and stayed so for the rest of that batch."""
    looks = [look for look in seen.of(events, "bench", "rows") if look["t"] > edit["t"]]
    looks = [look for look in looks if look["label"] == looks[0]["label"]]
    wrong = [index for index, look in enumerate(looks) if edit["menu"] in look["wrong"]]
    standing = looks[wrong[-1] + 1 :] if wrong else looks
    return float(standing[0]["t"] - edit["t"]) if standing else None


def _all_right_after(events: Sequence[Event], label: str, since_s: float) -> float | None:
    looks = seen.of(events, "bench", "rows", label=label)
    return float(looks[-1]["t"] - since_s) if looks and not looks[-1]["wrong"] else None


def _named(events: Sequence[Event], edit: Event) -> bool:
    return _said(events, edit["thing"], edit["kind"], float(edit["t"]))


def _said(events: Sequence[Event], thing: str, kind: str, since_s: float) -> bool:
    """Whether the agent named this thing, for this, within the time."""
    return any(
        said[1:] == ["drift found", thing, kind] and since_s - 1.0 <= said[0] <= since_s + RIGHT_S
        for status in seen.of(events, "bench", "status", rival=False)
        for said in status["said"]
    )


def _quiet(events: Sequence[Event]) -> list[float]:
    """What the agent had found by the end of the quiet stretch, and what it finds then."""
    ends = seen.of(events, "bench", "status", label="quiet ends")
    if not ends or not ends[-1]["answered"]:
        return []
    return [float(len(ends[-1]["said"]) + ends[-1]["rows"]["differing"] + ends[-1]["rows"]["mended"])]


def _left(events: Sequence[Event]) -> list[float]:
    """1 where the second edit stands in the router, is named, and nothing else differs."""
    looks, statuses = seen.of(events, "bench", "rows", label="fight"), seen.of(events, "bench", "status", label="fight")
    if not looks or not statuses or not statuses[-1]["answered"]:
        return []
    left = [one["thing"] for one in statuses[-1]["rows"]["found"] if one["left"]]
    stands = looks[-1]["wrong"] == ["/system/scheduler"] and left == ["/system/scheduler flush"]
    return [float(stands and "router_rows_fought_over" in statuses[-1]["faults"])]


def _changes(leaders: Sequence[Sequence[str]]) -> int:
    """How often the one who leads was another: the first, the second. Nobody in between is no change."""
    names = [name for one in leaders for name in one]
    return 1 + sum(before != after for before, after in itertools.pairwise(names)) if names else 0


def controls(events: Sequence[Event]) -> dict[str, str]:
    """Edits stay where no agent is; an edit is a finding; and a rival is seen to be one."""
    looks = seen.of(events, "bench", "rows", label="control")
    statuses = seen.of(events, "bench", "status", label="first batch")
    if not looks or not statuses:
        return {}
    stayed = {MANGLE, FILTER} <= set(looks[-1]["wrong"])
    counted = any(status["rows"] and status["said"] for status in statuses)
    two = seen.of(events, "bench", "status", label="two agents")
    watching = [status["rows"] and status["rows"]["led_by"] for status in two]
    told = any("router_held_by_other" in status["faults"] for status in two)
    return {
        "edits stay without an agent": "bit" if stayed else f"did not bite: {looks[-1]['wrong']}",
        "an edit is a finding": "bit" if counted else "did not bite: nothing was said",
        "the other is known": "bit" if told and sum(map(bool, watching)) == 1 else f"did not bite: {watching}",
    }


SCENARIO = Scenario(
    name="drift",
    purpose="edits by hand, a restored backup, a second agent: put right or named, once, and nobody fights",
    story=_right.given_up(story),
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started",),
    controls=controls,
)
