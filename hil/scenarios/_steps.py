"""Steps that several stories share."""

from __future__ import annotations

from hil import events as seen
from hil.bench import Bench, BenchBroken, Event, Match, disable_rows
from hil.virtual import addresses as plan

SETTLE_S = 8.0
SWITCH_S = {"7.22": 2.0, "6.49": 5.0}


def is_site_lease(event: Event) -> bool:
    """The first byte of the sentence that takes the site's LTE lease."""
    return bool(seen.leases_taken([event]))


def is_release(bench: Bench) -> Match:
    """The sentence that gives the site's lease back."""

    def match(event: Event) -> bool:
        return bool(seen.leases_removed([event])) and event in seen.released(bench.events())

    return match


def is_bound(user: str, address: str) -> Match:
    """The registrar accepts a phone at an address."""

    def match(event: Event) -> bool:
        return seen.registered([event], user, address, 0.0) is not None

    return match


async def quiet_start(bench: Bench) -> None:
    """Bring the site up, let it settle for a seeded while, so that every phase is met."""
    await bench.start_site()
    await bench.sleep(SETTLE_S + bench.random.uniform(0, 54.0))


async def talk(bench: Bench, phone: str, timeout_s: float = 20.0) -> None:
    """A phone calls the far end and talks from now on."""
    if await bench.place_call(phone, timeout_s) is None:
        raise BenchBroken("no call could be placed")
    await bench.sleep(bench.random.uniform(1.0, 3.0))


async def switch_over(bench: Bench, switched_s: float) -> None:
    """Wait until the switch must be over (clause P1), and note what had crossed by then."""
    await bench.sleep(max(0.0, switched_s + SWITCH_S[bench.options.router] - bench.now()))
    await bench.capture("after switch")


async def all_mails(bench: Bench, count: int, timeout_s: float) -> None:
    """Wait until the mail server has delivered so many mails."""
    end_s = bench.now() + timeout_s
    while len(seen.of(bench.events(), "exim", "delivered")) < count and bench.now() < end_s:
        await bench.sleep(0.5)
    await bench.sleep(2.0)  # one too many would come about now
    bench.observe("mails due")


async def leak_attempt(bench: Bench, text: str) -> None:
    """A PC tries to get out; whatever the state, nothing of it may be seen on LTE."""
    await bench.lan_attempt(text)


async def controls(bench: Bench) -> None:
    """Show that the standing checkers can fail: leak with the rules off, and a ping by the wrong path (M1, P10)."""
    bench.observe("strays begin")
    await bench.ping_from_site(plan.NEUTRAL_TARGETS[2])
    bench.observe("leak control")
    await disable_rows(bench, "/ip/firewall/filter", "edgeagent:out-lte-rest")
    mark = "=new-routing-mark=edge-lte"
    await bench.router_sentence(
        "/ip/firewall/mangle/add", "=chain=prerouting", f"=src-address={plan.PC}", "=action=mark-routing", mark
    )
    await bench.lan_attempt("LEAK-CONTROL")


async def really_cut(bench: Bench) -> None:
    """The control of a scenario that expects no failover: a line that really dies is left."""
    at_s = await bench.cut("wan")
    bench.observe("cause", at_s=at_s)
    bench.observe("control cut", at_s=at_s)
    await bench.wait(is_site_lease, 20.0, at_s)
    await bench.sleep(3.0)
