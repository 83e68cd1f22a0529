"""The disk of the agent's state hangs for 30 s around a failover: the switch is as fast, and nothing is lost.

The state lies on an ext4 of its own, which is frozen: every write waits until it is thawed, as on a card that has
stopped answering.
"""

from __future__ import annotations

from collections.abc import Sequence

from hil import events as seen
from hil.bench import Bench, Event
from hil.report import Measure, Samples
from hil.scenario import Scenario
from hil.scenarios import _probes, _stalls, _steps
from hil.virtual import addresses as plan

HOLD_S = 10.0
FROZEN_S = 30.0
MAIL_S = 120.0
RETURN_MAX_S = 60.0
RECORD_S = 0.2  # what the record may cost a switch (clause L6)
PHONES = ("p1", "p2", "p4")

MEASURES = (
    Measure("detection_s", "s", 3.0 + RECORD_S, "p95"),
    _stalls.TOLD,
    Measure("switch_s", "s", 0.5, "p95"),
    Measure("probe_delay_s", "s", _probes.DELAY_S),
    Measure("failover_mails", "", 2, "equal"),
    Measure("mail_after_thaw_s", "s", MAIL_S),
    Measure("recorded_moves", "", 2, "equal"),
    Measure("udp60_binding_s", "s", 60.0),
)


async def story(bench: Bench) -> None:
    """The disk hangs just before the line dies or just after; it goes on 30 s later."""
    await bench.start_site(PHONES, hold_s=HOLD_S, own_disk=True)
    await bench.sleep(_steps.SETTLE_S + bench.random.uniform(0, 54.0))
    await bench.place_call("p4", 10.0)
    await bench.sleep(bench.random.uniform(1.0, 3.0))
    await bench.reset_gaps()
    frozen_s = await bench.freeze_disk()
    await bench.sleep(bench.random.uniform(0.0, 2.0))
    cut_s = await bench.cut("wan")
    bench.observe("cause", at_s=cut_s)
    bench.observe("cut", at_s=cut_s)
    await bench.note_stalls(_stalls.CUT)
    lease = await bench.wait(_steps.is_site_lease, 20.0, cut_s)
    if lease is not None:
        await bench.note_stalls(_stalls.SWITCHED)
        bench.observe("switched", at_s=lease["t"])
        await _steps.switch_over(bench, lease["t"])
        await bench.lan_attempt("LEAK-ON-LTE")
    await bench.sleep(max(0.0, frozen_s + FROZEN_S - bench.now()))
    await bench.thaw_disk()
    if lease is None:
        return
    await bench.wait(_steps.is_bound("p1", plan.ROUTER_LTE), 65.0, lease["t"])
    await bench.probe_gap(_probes.WATCHED)
    await _mails(bench, "failover", 2)
    await bench.capture("before return")
    restored_s = await bench.restore("wan")
    bench.observe("restored", at_s=restored_s)
    await bench.wait(_steps.is_release(bench), RETURN_MAX_S, restored_s)
    await _steps.all_mails(bench, 4, MAIL_S)
    await bench.note_store("end")
    await _probes.control(bench)
    await _steps.controls(bench)


async def _mails(bench: Bench, kind: str, count: int) -> None:
    end_s = bench.now() + MAIL_S
    while len(seen.mails(bench.events(), kind)) < count and bench.now() < end_s:
        await bench.sleep(0.5)


def figures(events: Sequence[Event]) -> Samples:
    """From the emulator, the router's wire, exim and the agent's disk."""
    cut, thawed = seen.of(events, "bench", "cut"), seen.of(events, "bench", "disk thawed")
    lease = seen.first(seen.leases_taken(events), cut[0]["at_s"]) if cut else None
    if lease is None or not thawed:
        return {"failover_mails": [float(len(seen.mails(events, "failover")))]} if cut else {}
    switched_s = float(lease["t"])
    samples = _stalls.detection(events, cut[0]["at_s"], switched_s)
    voice = seen.voice_started(events, "lte", switched_s)
    if voice is not None:
        samples["switch_s"] = [voice["t"] - switched_s]
    delay_s = _probes.delay_s(events, _probes.WATCHED)
    if delay_s is not None:
        samples["probe_delay_s"] = [delay_s]
    samples["failover_mails"] = [float(len(seen.mails(events, "failover")))]
    samples["mail_after_thaw_s"] = [mail["t"] - thawed[0]["at_s"] for mail in seen.mails(events, "failover")]
    stored = seen.of(events, "store", "store", label="end")
    if stored:
        phases = [place["phase"] for place in stored[-1]["places"]]
        samples["recorded_moves"] = [float(sum(phases.count(phase) for phase in ("away", "returning")))]
    bound_s = seen.registered(events, "p1", plan.ROUTER_LTE, switched_s)
    if bound_s is not None:
        samples["udp60_binding_s"] = [bound_s - switched_s]
    return samples


def controls(events: Sequence[Event]) -> dict[str, str]:
    """A write of the bench to the same disk had to wait for the thaw, and the switch fell into that time."""
    found = _probes.controls(events)
    frozen, thawed = seen.of(events, "bench", "disk frozen"), seen.of(events, "bench", "disk thawed")
    written, taken = seen.of(events, "bench", "disk written"), seen.leases_taken(events)
    if not (frozen and thawed and taken):
        return found
    hung = bool(written) and written[0]["t"] >= thawed[0]["at_s"]
    inside = frozen[0]["at_s"] < taken[0]["t"] < thawed[0]["at_s"]
    found["disk"] = "bit" if hung and inside else f"did not bite: hung {hung}, switch meanwhile {inside}"
    return found


SCENARIO = Scenario(
    name="disk-hangs",
    purpose="the agent's disk hangs for 30 s in a failover; switch, probes and mails do not suffer",
    story=story,
    figures=figures,
    measures=MEASURES,
    breakages=("lease-swallowed", "mail-refused"),
    controls=controls,
)
