"""What the stories share that begin with a router which nobody of ours has seen: provision, fail over, take away.

Two exports are compared line by line, in order. What may differ while we are there is named here: our rows, by their
comment; the agent's access; and the adopted settings, each by its menu, what its line holds, and its properties.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Sequence

from hil import events as seen
from hil.bench import PHONES, Bench, Event
from hil.report import Measure, Samples
from hil.scenarios import _steps
from hil.virtual import addresses as plan

OURS = "edgeagent:"
GROUP = ("/user group add", "name=edgeagent")
# What an export does not show, and we leave nothing in either.
UNSHOWN = ("/user", "/certificate", "/file")
# What reads, of the sentences at the router's wire; all else changes something.
READING = ("print", "getall", "listen", "login", "cancel", "ping")
FAILOVER_S = 90.0
DETECTION_S = 5.0  # by the agent; the router alone would take ten seconds and more, and that is another story
SPREAD_S = 5.0
MINUTELY = ("p1", "p4")  # register once a minute by UDP: they can be called again soon
KNOWS_S = 20.0
AWAY_S = 75.0  # a phone that registers once a minute has done so by then
HAND = ("/ip/firewall/filter", "connection-state", "invalid")  # of the owner's: a rule that drops what is invalid

MEASURES = (
    Measure("failed_commands", "", 0, "equal"),
    Measure("second_apply_sentences", "", 0, "equal"),
    Measure("lines_changed_by_apply", "", 0, "equal"),
    Measure("lines_changed_after_remove", "", 0, "equal"),
    Measure("names_changed_after_remove", "", 0, "equal"),
    Measure("first_failover_s", "s", FAILOVER_S),
    Measure("detection_s", "s", DETECTION_S),
    Measure("udp60_bound_by_lte", "", len(MINUTELY), "equal"),
    Measure("provisioned_s", "s", None, "info"),
    Measure("udp60_bound_s", "s", None, "info"),
    Measure("our_lines", "", None, "info"),
)


def adopted(wan: str, lte: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """The adopted settings: menu, what tells the line, properties."""
    return (
        ("/ip service", "api-ssl", ("address", "certificate", "disabled")),
        ("/ip firewall connection tracking", "", ("udp-timeout", "udp-stream-timeout")),
        ("/ip firewall service-port", "sip", ("disabled",)),
        ("/ip neighbor discovery-settings", "", ("discover-interface-list",)),
        ("/ip dhcp-client", f"interface={wan}", ("script",)),
        ("/interface bridge port", f"interface={lte}", ("disabled",)),
        ("/interface ethernet", f"default-name={lte}", ("poe-out",)),
    )


# --- steps -------------------------------------------------------------------------------------------------------


async def begin(bench: Bench) -> bool:
    """The phones are there and talk to their provider; then the agent is let in."""
    await bench.start_phones(PHONES, SPREAD_S)
    wan, lte = plan.UPLINK_PORTS[bench.options.profile]
    bench.observe("ports", wan=wan, lte=lte)
    await _look(bench, "before")
    return await command(bench, "--bootstrap", as_owner=True)


async def command(bench: Bench, *words: str, as_owner: bool = False, code: int = 0) -> bool:
    """Run ``edgeagent provision``; whether it ended as it must, noted where it did not."""
    done = await bench.provision(*words, as_owner=as_owner)
    if done["code"] != code:
        bench.observe("not as it must", words=list(words), code=done["code"], must=code)
    return bool(done["code"] == code)


async def provision(bench: Bench) -> bool:
    """Plan, apply, apply again."""
    for words in (("--plan",), ("--apply",)):
        if not await command(bench, *words):
            return False
    bench.observe("provisioned")
    bench.observe("second apply")
    again = await command(bench, "--apply")
    bench.observe("second apply over")
    await bench.export("applied")
    return again


async def fail_over(bench: Bench) -> None:
    """The agent comes up, the line dies, and voice goes by LTE."""
    await bench.start_site((), 0.0, provisioned=True)
    await bench.wait(_knows_the_router, KNOWS_S)
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    lease = await bench.wait(_steps.is_site_lease, 20.0, cut_s)
    if lease is None:
        return
    bench.observe("switched", at_s=lease["t"])
    await _steps.switch_over(bench, lease["t"])
    waits = [bench.wait(_steps.is_bound(user, plan.ROUTER_LTE), AWAY_S, cut_s) for user in MINUTELY]
    await asyncio.gather(*waits)
    await bench.capture("before return")


def _knows_the_router(event: Event) -> bool:
    """The agent tells the router that it is there."""
    return bool(seen.leases_taken([event], "edge-alive"))


async def take_away(bench: Bench) -> None:
    """The line is back; the agent ends; nothing of ours stays. Before that: the comparison can fail."""
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.stop_agent()
    await _by_hand(bench)
    if await command(bench, "--remove", as_owner=True):
        await _look(bench, "removed")


async def _look(bench: Bench, label: str) -> None:
    """The export, and the names of what it does not show."""
    await bench.export(label)
    names = [f"{menu} {row['name']}" for menu in UNSHOWN for row in await bench.router_sentence(f"{menu}/print")]
    bench.observe("names", label=label, names=sorted(names))


async def _by_hand(bench: Bench) -> None:
    """One of the owner's rows is changed, seen so, and put back."""
    menu, name, value = HAND
    rows = await bench.router_sentence(f"{menu}/print")
    row_id = next(row[".id"] for row in rows if row.get(name) == value and not row.get("comment", "").startswith(OURS))
    await bench.router_sentence(f"{menu}/set", f"=.id={row_id}", f"={name}=invalid,untracked")
    await _look(bench, "changed by hand")
    await bench.router_sentence(f"{menu}/set", f"=.id={row_id}", f"={name}={value}")


# --- figures -----------------------------------------------------------------------------------------------------


def figures(events: Sequence[Event]) -> Samples:
    """Commands, sentences and exports; and the failover."""
    failed = len(seen.of(events, "bench", "not as it must"))
    samples: Samples = {"failed_commands": [float(failed)]}
    bounds = seen.marked(events, "second apply"), seen.marked(events, "second apply over")
    if bounds[0] is not None and bounds[1] is not None:
        samples["second_apply_sentences"] = [float(changing(events, bounds[0], bounds[1]))]
    first, applied, removed = expected(events), exported(events, "applied"), exported(events, "removed")
    if first is not None and applied is not None:
        samples["lines_changed_by_apply"] = [float(differing(owners(events, first), owners(events, applied)))]
        samples["our_lines"] = [float(len(applied) - len(owners(events, applied)))]
    if first is not None and removed is not None:
        samples["lines_changed_after_remove"] = [float(differing(first, removed))]
        samples["names_changed_after_remove"] = [float(len(_named(events, "before") ^ _named(events, "removed")))]
    return samples | _first_failover(events)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """That a row changed by hand is seen, and so is what stands while it is not removed."""
    first, changed = expected(events), exported(events, "changed by hand")
    if first is None or changed is None:
        return {}
    hand = differing(owners(events, first), owners(events, changed))
    standing = differing(first, changed)
    named = len(_named(events, "before") ^ _named(events, "changed by hand"))
    return {
        "changed by hand": "bit" if hand == 2 else f"did not bite: {hand} lines differ where one was changed",
        "not removed": "bit" if standing > hand and named else "did not bite: all of ours stands, and nothing differs",
    }


def _named(events: Sequence[Event], label: str) -> set[str]:
    return set(seen.of(events, "bench", "names", label=label)[-1]["names"])


def expected(events: Sequence[Event]) -> list[str] | None:
    """The router as it was, with what its owner has changed since; None where the story did not come to it."""
    lines = exported(events, "before")
    for change in seen.of(events, "bench", "owner changed"):
        lines = None if lines is None else [line.replace(change["found"], change["changed"]) for line in lines]
    return lines


def exported(events: Sequence[Event], label: str) -> list[str] | None:
    """The lines of an export; None where the story did not come to it."""
    found = seen.of(events, "bench", "export", label=label)
    return list(found[-1]["lines"]) if found else None


def changing(events: Sequence[Event], since_s: float, until_s: float) -> int:
    """Sentences at the router's wire that change something."""
    sentences = [event for event in seen.of(events, "router", "sentence") if since_s <= event["t"] <= until_s]
    return sum(event["words"][0].rpartition("/")[2] not in READING for event in sentences)


def differing(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines are in one of them only; one that was changed counts twice."""
    return sum(line[:1] in "+-" for line in difflib.ndiff(one, other))


def owners(events: Sequence[Event], lines: Sequence[str]) -> list[str]:
    """What is the owner's: without our rows, our access, and the properties that are adopted."""
    ports = seen.of(events, "bench", "ports")[-1]
    settings = adopted(str(ports["wan"]), str(ports["lte"]))
    kept = [_plain(line, settings) for line in without_access(lines) if OURS not in line.split(" script=")[0]]
    return [line for line in kept if line]


def without_access(lines: Sequence[str]) -> list[str]:
    """Without what the bootstrap made: the group of the agent's user. The export shows no users and certificates."""
    return [line for line in lines if not (line.startswith(GROUP[0]) and GROUP[1] in line)]


def _plain(line: str, settings: Sequence[tuple[str, str, tuple[str, ...]]]) -> str:
    """The line without adopted properties; nothing where no other was set."""
    words = re.findall(r'(?:"(?:\\.|[^"\\])*"|[^\s"])+', line)
    for menu, mark, names in settings:
        if not line.startswith((f"{menu} set ", f"{menu} add ")) or (mark and mark not in words):
            continue
        left = [word for word in words if word.partition("=")[0] not in names]
        if " set " in line and not any("=" in word for word in left[left.index("]") + 1 if "]" in left else 0 :]):
            return ""
        return " ".join(left)
    return line


def _first_failover(events: Sequence[Event]) -> Samples:
    """From the first command to the time at which voice goes by LTE and a phone can be called there."""
    commands = seen.of(events, "bench", "provision")
    cut, ready = seen.of(events, "bench", "cut"), seen.marked(events, "provisioned")
    if not commands or not cut or ready is None:
        return {}
    began_s, cut_s = float(commands[0]["began_s"]), float(cut[0]["at_s"])
    samples: Samples = {"provisioned_s": [ready - began_s]}
    lease, voice = seen.first(seen.leases_taken(events), cut_s), seen.voice_started(events, "lte", cut_s)
    found = {user: seen.registered(events, user, plan.ROUTER_LTE, cut_s) for user in PHONES}
    bound = {user: at_s for user, at_s in found.items() if at_s is not None}
    minutely = [at_s for user, at_s in bound.items() if user in MINUTELY]
    samples["udp60_bound_by_lte"] = [float(len(minutely))]
    samples["udp60_bound_s"] = [at_s - cut_s for at_s in minutely]
    if lease is not None:
        samples["detection_s"] = [lease["t"] - cut_s]
    if voice is not None and bound:
        samples["first_failover_s"] = [max(float(voice["t"]), min(bound.values())) - began_s]
    return samples
