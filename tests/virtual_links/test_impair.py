"""The pure state of a line: loss, bursts, queue, order, filters. No root, no clock."""

from __future__ import annotations

import itertools
import random

import pytest

from hil.virtual.emulator_impair import (
    BurstLoss,
    BurstState,
    Impairment,
    ImpairmentError,
    Pipe,
    changed,
    parse_filter,
)
from hil.virtual.emulator_packet import FlowKey

OPTIONS = FlowKey("sip", "udp", "192.0.2.2", 5060, "203.0.113.10", 5060, "OPTIONS")
PING = FlowKey("icmp", "icmp", "192.0.2.2", 0, "203.0.113.129", 0, "echo")


def test_independent_loss_has_its_share_and_repeats_with_its_seed() -> None:
    line = changed(Impairment(), {"loss": 0.1})
    runs = [[pipe.is_lost(n * 0.02) for n in range(20_000)] for pipe in (Pipe(line, "7", 0.0), Pipe(line, "7", 0.0))]
    assert runs[0] == runs[1]
    assert sum(runs[0]) / 20_000 == pytest.approx(0.1, abs=0.01)


def test_bursts_have_the_asked_mean_loss_length_and_share() -> None:
    spec = BurstLoss(mean_loss=0.05, mean_burst_s=0.5, loss_in_burst=0.8)
    pipe = Pipe(Impairment(loss=spec), "3", 0.0)
    lost = [pipe.is_lost(n * 0.02) for n in range(1_000_000)]
    assert sum(lost) / len(lost) == pytest.approx(0.05, rel=0.1)
    state = BurstState(spec, random.Random(1), 0.0)
    bad = [state.is_bad(n * 0.01) for n in range(2_000_000)]
    bursts = sum(now and not before for before, now in itertools.pairwise(bad))
    assert sum(bad) * 0.01 / bursts == pytest.approx(0.5, rel=0.1)
    assert sum(bad) / len(bad) == pytest.approx(0.05 / 0.8, rel=0.1)


def test_the_bursts_timeline_does_not_depend_on_the_traffic() -> None:
    spec = BurstLoss(mean_loss=0.2, mean_burst_s=0.3)
    dense, sparse = (Pipe(Impairment(loss=spec), "5", 0.0) for _ in range(2))
    seen = {n: dense.is_lost(n * 0.02) for n in range(5000)}
    assert [sparse.is_lost(n * 0.02) for n in range(0, 5000, 7)] == [seen[n] for n in range(0, 5000, 7)]


def test_after_a_day_of_silence_the_bursts_go_on_at_once() -> None:
    state = BurstState(BurstLoss(mean_loss=0.4, mean_burst_s=0.005), random.Random(1), 0.0)
    state.is_bad(86_400.0 * 365)
    assert any(state.is_bad(86_400.0 * 365 + n * 0.01) for n in range(1000))


def test_the_bottleneck_spaces_packets_and_its_queue_overflows() -> None:
    pipe = Pipe(Impairment(rate_kbit=800, queue_bytes=3000, delay_ms=10), "1", 0.0)
    times = [pipe.departure(0.0, 1000) for _ in range(5)]
    assert times[:3] == pytest.approx([0.020, 0.030, 0.040])  # 1000 bytes take 10 ms, then the delay
    assert times[3:] == [None, None]
    assert pipe.departure(0.020, 1000) == pytest.approx(0.050)


def test_neither_jitter_nor_a_shorter_delay_changes_the_order() -> None:
    pipe = Pipe(Impairment(delay_ms=50, jitter_ms=40), "1", 0.0)
    times = [pipe.departure(n * 0.005, 200) or 0.0 for n in range(200)]
    pipe.set(Impairment(delay_ms=1), 1.0)
    times.append(pipe.departure(1.0, 200) or 0.0)
    assert times == sorted(times)
    assert max(at - n * 0.005 for n, at in enumerate(times)) <= 0.09


@pytest.mark.parametrize(
    ("expression", "options", "ping"),
    [
        ({"protocol": "icmp"}, False, True),
        ({"class": "icmp", "icmp_type": "echo-reply"}, False, False),
        ({"protocol": "udp", "sip_method": "OPTIONS"}, True, False),
        ({"protocol": "udp", "sip_method": "REGISTER"}, False, False),
        ({"dst": "203.0.113.0/27"}, True, False),
        ({"src": "192.0.2.2", "dport": [5060, 5061]}, True, False),
    ],
)
def test_filters_match_when_every_given_field_does(expression: dict[str, object], options: bool, ping: bool) -> None:
    wanted = parse_filter(expression)
    assert (wanted.matches(OPTIONS), wanted.matches(PING)) == (options, ping)


@pytest.mark.parametrize(
    "changes",
    [
        {"delay": 5},
        {"delay_ms": -1},
        {"delay_ms": True},
        {"loss": 1.5},
        {"loss": {"mean_loss": 0.5, "mean_burst_s": 1, "loss_in_burst": 0.4}},
        {"loss": {"mean_loss": 0.5}},
        {"blackhole": 1},
        {"filters": {"protocol": "icmp"}},
        {"filters": [{}]},
        {"filters": [{"class": "voice"}]},
        {"filters": [{"dst": "nowhere"}]},
    ],
)
def test_a_mistaken_change_is_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        changed(Impairment(), changes)
    with pytest.raises(ImpairmentError, match="delay_ms"):
        changed(Impairment(), {"delay_ms": "8"})
