"""What is the bench's own waiting and what is the product's: calls by the media's clock, detection less the stalls."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from hil.bench import Event
from hil.scenarios import _calls, _stalls
from hil.scenarios._probes import TARGETS
from hil.virtual.usage import kept_waiting

CUT_S = 100.0
LIMIT_S = 3.0


def flow(*, media_s: float = 0.02, spacing_s: float = 0.03, last_s: float = 199.99, packets: int = 500) -> Event:
    times = {"max_media_gap_s": media_s, "max_gap_s": spacing_s, "last_delivered_t": last_s}
    return {"link": "lte", "packets": packets, **times}


def noted(*flows: Event) -> list[Event]:
    return [{"t": 200.0, "source": "emulator", "event": "max_gaps", "label": "kept", "gaps": list(flows)}]


def test_a_sender_that_is_late_makes_no_gap_and_is_told() -> None:
    events = noted(flow(spacing_s=0.4), flow())
    assert _calls.gaps_s(events, "kept") == [0.02, 0.02]
    assert _calls.spacing_s(events, "kept") == 0.4


def test_what_is_missing_is_a_gap_and_so_is_a_stream_that_ended() -> None:
    assert _calls.gaps_s(noted(flow(media_s=0.3), flow(last_s=195.0)), "kept") == [0.3, pytest.approx(5.0)]
    assert _calls.gaps_s(noted(flow(last_s=199.5)), "kept") == [0.02], "half a second is a wait of the bench"


def test_other_lines_and_control_packets_are_no_call() -> None:
    assert _calls.gaps_s(noted({**flow(), "link": "wan"}, flow(packets=20)), "kept") == []
    assert _calls.spacing_s([], "kept") is None


# --- detection ----------------------------------------------------------------------------------------------------


def pings(*moments_s: float) -> list[float]:
    return [90.4 + n for n in range(10)] + list(moments_s)


def story(moments_s: Sequence[float], lease_s: float, *, waited_s: float = 0.0, stolen_s: float = 0.0) -> list[Event]:
    seen = {"pings": {"wan": {target: list(moments_s) for target in TARGETS}}}
    waits = [{"agent_s": 5.0, "stolen_s": 2.0}, {"agent_s": 5.0 + waited_s, "stolen_s": 2.0 + stolen_s}]
    return [
        {"t": CUT_S, "source": "kernel", "event": "kept waiting", "label": _stalls.CUT, **waits[0]},
        {"t": lease_s + 0.1, "source": "emulator", "event": "pings", "label": _stalls.SWITCHED, **seen},
        {"t": lease_s + 0.1, "source": "kernel", "event": "kept waiting", "label": _stalls.SWITCHED, **waits[1]},
    ]


def found(moments_s: Sequence[float], lease_s: float, **machine: float) -> tuple[float, float]:
    samples = _stalls.detection(story(moments_s, lease_s, **machine), CUT_S, lease_s)
    return samples["detection_s"][0], samples["bench_stall_s"][0]


PACED = [100.4, *(100.7 + n * 0.1 for n in range(12))]  # once, and then ten times a second
STALLED = [100.4, 100.7, 100.8, *(101.9 + n * 0.1 for n in range(11))]  # a second of nothing


def test_an_agent_that_keeps_its_pace_is_judged_by_all_the_time_it_took() -> None:
    assert found(pings(*PACED), 101.85, waited_s=2.0) == pytest.approx((1.85, 0.0))


def test_what_the_machine_kept_it_from_is_taken_off() -> None:
    assert found(pings(*STALLED), 103.0, waited_s=5.0) == pytest.approx((2.0, 1.0))
    assert found(pings(*STALLED), 103.0, stolen_s=5.0) == pytest.approx((2.0, 1.0))
    assert found(pings(*STALLED), 103.0, waited_s=0.3) == pytest.approx((2.7, 0.3)), "no more than it was kept waiting"
    slow = [101.9, *(102.2 + n * 0.1 for n in range(12))]  # the first round was due at 100.4
    assert found(pings(*slow), 103.4, waited_s=9.0) == pytest.approx((1.9, 1.5))


def test_a_stall_that_began_before_the_cut_counts_from_the_cut() -> None:
    late = [90.4, 101.0, *(101.3 + n * 0.1 for n in range(12))]
    assert found(late, 102.5, waited_s=9.0) == pytest.approx((1.5, 1.0))


@pytest.mark.parametrize(
    "moments_s",
    [
        pytest.param(STALLED, id="blocked by its own doing"),
        pytest.param([100.4, *(100.7 + n * 0.3 for n in range(12))], id="a slow pace of its own"),
        pytest.param(PACED, id="pings in time, decides late"),
        pytest.param([100.4], id="never suspects"),
        pytest.param([], id="does not ping"),
    ],
)
def test_an_agent_that_is_slow_itself_misses_though_the_machine_is_fine(moments_s: list[float]) -> None:
    lease_s = 103.2
    detection_s, stall_s = found(pings(*moments_s), lease_s)
    assert (detection_s > LIMIT_S, stall_s) == (True, 0.0)


def test_an_agent_that_decides_late_misses_on_a_busy_machine_too() -> None:
    """Its pings go on at their pace, so nothing was lost by waiting."""
    on = [100.4, *(100.7 + n * 0.1 for n in range(25))]
    assert found(pings(*on), 103.2, waited_s=9.0)[0] > LIMIT_S


def test_without_notes_nothing_is_taken_off() -> None:
    assert _stalls.detection([], CUT_S, 102.0) == {"detection_s": [2.0], "bench_stall_s": [0.0]}


def test_the_kernel_counts_the_wait_of_a_program_that_is_kept_from_running_and_none_of_one_that_sleeps() -> None:
    """Two that compute on one processor each wait while the other runs."""
    core = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    sleeps = "import time; time.sleep(60)"
    programs = [subprocess.Popen([sys.executable, "-c", text]) for text in (busy, busy, sleeps)]
    try:
        time.sleep(1.0)
        first = [kept_waiting(program.pid)["agent_s"] for program in programs]
        time.sleep(1.0)
        more = [kept_waiting(program.pid)["agent_s"] - before for program, before in zip(programs, first, strict=True)]
    finally:
        for program in programs:
            program.kill()
            program.wait()
    assert min(more[:2]) > 0.2
    assert more[2] == 0.0
