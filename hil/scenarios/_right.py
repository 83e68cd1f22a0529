"""Is the site in the right state, and since when? From the router's entries and from where voice flows, nothing else.

A *stage* is a stretch of a story with a state that is right in it, counted from a moment such as the start of a new
process. The story looks several times a second (``Bench.look``) until the state is right and stays so.

=========  ==================================================  ====================================
state      entries in the router                               voice
=========  ==================================================  ====================================
lte        the whole site holds the lease of LTE               by LTE, and nothing into the primary
returning  none for the site, one for the phone in the call    the call by LTE
home       none                                                by the primary, nothing into LTE
=========  ==================================================  ====================================

In each ``edge-alive`` holds an entry: the sign that the agent is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.virtual import addresses as plan

Story = Callable[[Bench], Awaitable[None]]
ALIVE = "edge-alive 0.0.0.0/0"
SITE = f"{seen.SITE_LEASE} 0.0.0.0/0"
LOOK_S = 0.25
STEADY_S = 3.0
FLOWING_S = 2.0  # media comes 50 times a second
CARRIER = {"lte": "lte", "returning": "lte", "home": "wan"}
EMPTY = {"lte": "wan", "home": "lte"}


async def settle(bench: Bench, name: str, state: str, since_s: float, limit_s: float) -> bool:
    """Look until the state is right and has stayed so for a while; False once that cannot be in time any more."""
    bench.observe("stage", name=name, state=state, since_s=since_s)
    while bench.now() < since_s + limit_s + STEADY_S:
        look = await bench.look(name)
        right_s = right_after(bench.events(), name)
        if right_s is not None and look["t"] - since_s - right_s >= STEADY_S:
            return True
        await bench.sleep(LOOK_S)
    return False


class NotRight(Exception):
    """The state was not right in time: what would follow in the story has lost its meaning."""


async def reach(bench: Bench, name: str, state: str, since_s: float, limit_s: float) -> None:
    """As :func:`settle`; raises NotRight."""
    if not await settle(bench, name, state, since_s, limit_s):
        raise NotRight(name)


def given_up(story: Story) -> Story:
    """The story, ended at the first stage whose state is not reached: its figures miss by that."""

    async def play(bench: Bench) -> None:
        try:
            await story(bench)
        except NotRight as stage:
            bench.observe("given up", stage=str(stage))

    return play


def stages(events: Sequence[Event]) -> list[str]:
    """The stages of a story, in order."""
    return [str(event["name"]) for event in seen.of(events, "bench", "stage")]


def right_after(events: Sequence[Event], name: str) -> float | None:
    """How long after the stage's beginning the state was right and stayed so; None if it is not at the last look."""
    stage = seen.of(events, "bench", "stage", name=name)[-1]
    state, since_s = str(stage["state"]), float(stage["since_s"])
    busy = talking(events, float(stage["t"]))
    looks = [look for look in seen.of(events, "bench", "look", stage=name) if look["t"] >= since_s]
    wrong = [index for index, look in enumerate(looks) if not _leases_right(look["leases"], state, busy)]
    standing = looks[wrong[-1] + 1 :] if wrong else looks
    if not standing:
        return None
    voice_s = _voice_right(standing, state, since_s)
    return None if voice_s is None else max(0.0, standing[0]["t"] - since_s, voice_s - since_s)


def talking(events: Sequence[Event], at_s: float) -> str:
    """The lease on LTE of the phone that dialled last before this time, as the router shows it."""
    users = [str(event["user"]) for event in seen.of(events, "bench", "dialled") if event["t"] < at_s]
    return f"{seen.PHONE_LEASE} {plan.PHONES[int(users[-1][1:]) - 1]}" if users else ""


def _leases_right(leases: Sequence[str] | None, state: str, talking: str) -> bool:
    if leases is None or ALIVE not in leases:
        return False
    site, busy = SITE in leases, talking in leases
    phones = any(lease.startswith(seen.PHONE_LEASE) for lease in leases)
    return {"lte": site, "returning": busy and not site, "home": not site and not phones}[state]


def _voice_right(looks: Sequence[Event], state: str, since_s: float) -> float | None:
    """Since when voice was where it belongs; None if it is not at the last look."""
    last = looks[-1]
    carrier = CARRIER[state]
    delivered_s = last["voice"][carrier]["delivered_s"] or 0.0
    if last["t"] - delivered_s > FLOWING_S:
        return None
    arrivals = [look["voice"][carrier]["delivered_s"] or 0.0 for look in looks]
    begun_s = min(at_s for at_s in arrivals if at_s >= min(since_s, delivered_s))
    if state not in EMPTY:
        return begun_s
    return max(begun_s, last["voice"][EMPTY[state]]["entered_s"] or 0.0)
