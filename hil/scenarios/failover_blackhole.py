"""The line dies silently, its link stays up; later it returns. The story the product exists for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _calls, _stalls, _steps
from hil.virtual import addresses as plan

HOLD_S = 30.0
MAIL_S = 120.0
AWAY_MAX_S = 170.0
CALL_MAX_S = 60.0  # a guard: before the line dies a call is answered at once
BACK_S = HOLD_S + 75.0
# A phone on TCP or TLS learns that its connection is gone only when it next speaks, and then waits out its back-off.
HOMES = {"udp60": "p1", "tcp60": "p5", "tls60": "p6"}
INFORMED_S = 190.0
# The keep-alive notices the new address within the flow timer (25 s); then the phone waits 30 to 60 s by RFC 5626
# section 4.5 before it registers. Nothing in the network shortens that.
RFC5626_S = 25.0 + 60.0
CALL_GAP_S = 0.1
BINDINGS = {"udp60": "p1", "udp120": "p2", "rfc5626": "p3", "tcp60": "p5", "tls60": "p6"}

MEASURES = (
    Measure("detection_s", "s", 3.0, "p95"),
    _stalls.TOLD,
    Measure("switch_s", "s", 0.5, "p95"),
    Measure("lease_sentences", "", 1, "equal"),
    Measure("outbound_call_s", "s", 5.0),
    Measure("udp60_binding_s", "s", 60.0),
    Measure("udp120_binding_s", "s", 115.0),
    Measure("rfc5626_binding_s", "s", RFC5626_S),
    Measure("tcp60_binding_s", "s", None, "info"),
    Measure("tls60_binding_s", "s", None, "info"),
    Measure("failover_mails", "", 2, "equal"),
    Measure("failover_mail_s", "s", MAIL_S),
    Measure("restored_mails", "", 2, "equal"),
    Measure("restored_mail_s", "s", MAIL_S),
    Measure("home_udp60_s", "s", HOLD_S + 70.0),
    Measure("home_tcp60_s", "s", None, "info"),
    Measure("home_tls60_s", "s", None, "info"),
    Measure("uncallable_udp_s", "s", 10.0),
    Measure("uncallable_tcp_tls_s", "s", None, "info"),
    Measure("call_gap_s", "s", CALL_GAP_S),
    Measure("call_spacing_s", "s", None, "info"),
)


async def story(bench: Bench) -> None:
    """Bring up, call, cut, watch the switch, call again, restore, watch everybody come home."""
    await _steps.quiet_start(bench)
    await bench.place_call("p4", CALL_MAX_S)
    await _steps.leak_attempt(bench, "LEAK-ON-PRIMARY")
    await bench.sleep(bench.random.uniform(2.0, 4.0))
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    await bench.note_stalls(_stalls.CUT)
    lease = await bench.wait(_steps.is_site_lease, 20.0, cut_s)
    if lease is None:
        return
    await bench.note_stalls(_stalls.SWITCHED)
    await _away(bench, lease["t"])
    await _back(bench)
    await _steps.controls(bench)


async def _away(bench: Bench, switched_s: float) -> None:
    bench.observe("switched", at_s=switched_s)
    await bench.sleep(1.0)  # a person listens to the dead air before dialling again
    await bench.call_gap("call lost")
    await bench.hang_up("p4")
    answered = await bench.place_call("p4", 30.0)
    bench.observe("outbound call", at_s=answered)
    await _steps.switch_over(bench, switched_s)
    await _steps.leak_attempt(bench, "LEAK-ON-LTE")
    waits = [
        bench.wait(_steps.is_bound(user, plan.ROUTER_LTE), AWAY_MAX_S - (bench.now() - switched_s), switched_s)
        for user in BINDINGS.values()
    ]
    await asyncio.gather(*waits)
    await bench.sleep(bench.random.uniform(1.0, 10.0))
    await bench.capture("before return")


async def _back(bench: Bench) -> None:
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.reset_gaps()
    await bench.wait(_steps.is_bound("p1", plan.ROUTER_WAN), BACK_S, restored_s)
    await bench.sleep(max(0.0, restored_s + HOLD_S + 20.0 - bench.now()))
    await bench.call_gap("call kept")
    await bench.hang_up("p4")
    left_s = restored_s + INFORMED_S - bench.now()
    waits = [bench.wait(_steps.is_bound(user, plan.ROUTER_WAN), left_s, restored_s) for user in ("p4", "p5", "p6")]
    await asyncio.gather(*waits)
    await _steps.all_mails(bench, 4, MAIL_S)


def figures(events: Sequence[Event]) -> Samples:
    """Everything from the emulator, the router's wire, Kamailio and exim."""
    cut = seen.of(events, "bench", "cut")
    if not cut:
        return {}
    cut_s = float(cut[0]["at_s"])
    samples: Samples = {"failover_mails": [float(len(seen.mails(events, "failover")))]}
    lease = seen.first(seen.leases_taken(events), cut_s)
    if lease is None:
        return samples
    switched_s = float(lease["t"])
    samples |= _stalls.detection(events, cut_s, switched_s)
    voice = seen.voice_started(events, "lte", switched_s)
    if voice is not None:
        samples["switch_s"] = [voice["t"] - switched_s]
        samples["lease_sentences"] = [float(_lease_sentences(events, cut_s, voice["t"]))]
    call = seen.of(events, "bench", "outbound call")
    if call and call[0]["at_s"] is not None:
        samples["outbound_call_s"] = [call[0]["at_s"] - switched_s]
    for name, user in BINDINGS.items():
        bound_s = seen.registered(events, user, plan.ROUTER_LTE, switched_s)
        if bound_s is not None:
            samples[f"{name}_binding_s"] = [bound_s - switched_s]
    samples["failover_mail_s"] = [mail["t"] - switched_s for mail in seen.mails(events, "failover")]
    return {**samples, **_figures_back(events)}


def _figures_back(events: Sequence[Event]) -> Samples:
    restored = seen.of(events, "bench", "restored")
    if not restored:
        return {}
    restored_s = float(restored[0]["at_s"])
    samples: Samples = {"restored_mails": [float(len(seen.mails(events, "restored")))]}
    ends = seen.lease_ends(events, seen.PHONE_LEASE)
    released = seen.first(seen.released(events), restored_s)
    for name, user in HOMES.items():
        home_s = seen.registered(events, user, plan.ROUTER_WAN, restored_s)
        if home_s is None:
            continue
        samples[f"home_{name}_s"] = [home_s - restored_s]
        if released is not None:
            # A phone that was about to speak anyway was let go with the site's lease.
            released_s = ends.get(plan.PHONES[int(user[1]) - 1], float(released["t"]))
            kind = "uncallable_udp_s" if name.startswith("udp") else "uncallable_tcp_tls_s"
            samples.setdefault(kind, []).append(home_s - released_s)
    if released is not None:
        samples["restored_mail_s"] = [mail["t"] - released["t"] for mail in seen.mails(events, "restored")]
    gaps, spacing_s = _calls.gaps_s(events, "call kept"), _calls.spacing_s(events, "call kept")
    if len(gaps) >= 2 and spacing_s is not None:  # both directions
        samples |= {"call_gap_s": [max(gaps)], "call_spacing_s": [spacing_s]}
    return samples


def _lease_sentences(events: Sequence[Event], since_s: float, until_s: float) -> int:
    """Sentences that changed leases between the cut and the first voice packet; renewals change nothing."""
    return sum(1 for event in seen.lease_changes(events) if since_s <= event["t"] <= until_s)


def controls(events: Sequence[Event]) -> dict[str, str]:
    """The call that was in progress on the line when it died is seen to fall silent."""
    if not seen.of(events, "emulator", "max_gaps", label="call lost"):
        return {}
    gaps = _calls.gaps_s(events, "call lost", "wan")
    return {"call gap": "bit" if gaps and min(gaps) > CALL_GAP_S else "did not bite: a dead line silenced nobody"}


SCENARIO = Scenario(
    name="failover-blackhole",
    purpose="the line dies silently and returns; phones, calls and mails are watched",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("agent-not-started", "lease-swallowed", "removals-swallowed@6.49", "mail-refused"),
    controls=controls,
)
