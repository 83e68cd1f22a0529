"""The mail server puts mails off, then is away, while the line fails twice: each incident is told once, and in time."""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _steps
from hil.virtual import addresses as plan

HOLD_S = 10.0
MAIL_S = 120.0  # clause N4
LONG_S = 75.0  # beyond the 45 s that a failover's mail waits
BLIP_S = 6.0
RETURN_MAX_S = 60.0
PHONES = ("p1", "p2")

MEASURES = (
    Measure("taken_while_put_off", "", 0, "equal"),
    Measure("failover_mails", "", 2, "equal"),
    Measure("failover_after_accept_s", "s", MAIL_S),
    Measure("restored_mails", "", 2, "equal"),
    Measure("restored_mail_s", "s", MAIL_S),
    Measure("summary_mails", "", 2, "equal"),
    Measure("summary_after_return_s", "s", MAIL_S),
)


async def story(bench: Bench) -> None:
    """A long outage with a server that says "later", then a blip while it is away."""
    await bench.start_site(PHONES, hold_s=HOLD_S)
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 20.0))
    if bench.options.breakage != "mail-refused":
        await bench.provider_mail("defer")
    cut_s = await _cut(bench)
    lease = await bench.wait(_steps.is_site_lease, 20.0, cut_s)
    if lease is None:
        return
    bench.observe("switched", at_s=lease["t"])
    await _steps.switch_over(bench, lease["t"])
    await bench.lan_attempt("LEAK-ON-LTE")
    await bench.sleep(LONG_S - (bench.now() - cut_s))
    await _open(bench, "first")
    await _mails(bench, "failover", 2)
    await bench.wait(_steps.is_bound("p1", plan.ROUTER_LTE), 65.0, lease["t"])
    await bench.capture("before return")
    await _restore(bench)
    await _mails(bench, "restored", 2)
    await _blip(bench)
    await _steps.all_mails(bench, 6, MAIL_S)
    await _steps.controls(bench)


async def _blip(bench: Bench) -> None:
    await bench.sleep(70.0)  # so that nobody is on the way home any more
    await bench.provider_mail("down")
    bench.observe("mail shut", what="second")
    await _cut(bench)
    await bench.sleep(BLIP_S)
    await _restore(bench)
    await bench.sleep(5.0)
    await _open(bench, "second")


async def _cut(bench: Bench) -> float:
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    return cut_s


async def _restore(bench: Bench) -> None:
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.wait(_steps.is_release(bench), RETURN_MAX_S, restored_s)


async def _open(bench: Bench, what: str) -> None:
    bench.observe("mail open", what=what)
    if bench.options.breakage != "mail-refused":
        await bench.provider_mail("accept")


async def _mails(bench: Bench, kind: str, count: int) -> None:
    end_s = bench.now() + MAIL_S
    while len(seen.mails(bench.events(), kind)) < count and bench.now() < end_s:
        await bench.sleep(0.5)


def figures(events: Sequence[Event]) -> Samples:
    """From exim and the router's wire."""
    opened = {event["what"]: event["t"] for event in seen.of(events, "bench", "mail open")}
    kinds = {kind: seen.mails(events, kind) for kind in ("failover", "restored", "summary")}
    samples: Samples = {f"{kind}_mails": [float(len(mails))] for kind, mails in kinds.items()}
    if "first" not in opened:
        return samples
    early = [mail for mail in seen.of(events, "exim", "delivered") if mail["t"] < opened["first"]]
    samples["taken_while_put_off"] = [float(len(early))]
    samples["failover_after_accept_s"] = [mail["t"] - opened["first"] for mail in kinds["failover"]]
    restored = seen.of(events, "bench", "restored")
    released = seen.first(seen.released(events), restored[0]["at_s"]) if restored else None
    if released is not None:
        samples["restored_mail_s"] = [mail["t"] - released["t"] for mail in kinds["restored"]]
    if "second" in opened:
        samples["summary_after_return_s"] = [mail["t"] - opened["second"] for mail in kinds["summary"]]
    return samples


SCENARIO = Scenario(
    name="mail-trouble",
    purpose="the mail server puts mails off and goes away; each incident is told once and in time, a blip in one mail",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("mail-refused", "agent-not-started"),
)
