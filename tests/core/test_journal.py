"""Clause C6: what is kept of the facts is little, and gives the same decisions again."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from edgeagent.core import journal
from edgeagent.core.facts import Flow, FlowsSeen, Instant
from edgeagent.core.intents import MoveFlows
from edgeagent.core.turn import State, Turn, turn
from tests.core.driver import WAN, Site

DAY_BYTES_MAX = 4 << 20


class Recorded(Site):
    """A site under the core whose every turn goes into a recorder."""

    def __init__(self) -> None:
        self.recorder = journal.Recorder()
        self.decided: list[object] = []
        self.start: State | None = None
        super().__init__()

    def tell(self, *facts: object) -> Turn:
        before = self.state
        if self.start is None:
            self.start = before
        result = super().tell(*facts)  # type: ignore[arg-type]
        now = Instant(self.now_s, "boot0000", 1.7e9 + self.now_s, "synced")
        self.recorder.add(before, facts, now, result)  # type: ignore[arg-type]
        self.decided += [*result.transitions, *result.notices, *result.intents]
        return result


def phone(number: int, at_s: float) -> Flow:
    grown = int(at_s / 60 + number / 12) * 700
    idle_s = at_s % 60
    source = f"192.168.88.{number}"
    return Flow("udp", source, 5060, "203.0.113.10", 5060, WAN, grown, grown, media=False, idle_s=idle_s)


def test_an_outage_and_the_way_home_are_decided_again_from_what_was_kept() -> None:
    site = Recorded()
    site.flows = lambda at_s: tuple(phone(number, at_s) for number in range(11, 17))
    site.run(400)
    site.alive = lambda path, at_s: path != "primary" or not 1420.3 <= at_s < 1500.7
    site.run(400)
    batch = site.recorder.take()
    assert batch is not None
    assert site.start is not None
    stored = journal.unpacked_batch(journal.packed(batch))
    results = list(journal.replayed(journal.unpacked_state(journal.packed(site.start)), [stored], site.settings))
    again = [one for result in results for one in (*result.transitions, *result.notices, *result.intents)]
    assert again == site.decided
    assert any(isinstance(one, MoveFlows) for one in again)
    quiet = [one for one in batch.turns if one.mono_s < 1420.0]
    assert len(quiet) < sum(1 for at_s, _ in site.turns if at_s < 1420.0) / 5  # the quiet stretch is left out


def test_a_replay_from_other_facts_decides_otherwise() -> None:
    """The control of the one above: the comparison can fail."""
    site = Recorded()
    site.run(100)
    site.alive = lambda path, at_s: path != "primary" or at_s < 1110.0
    site.run(30)
    batch = site.recorder.take()
    assert batch is not None
    assert site.start is not None
    fewer = msgspec.structs.replace(batch, turns=batch.turns[: len(batch.turns) // 2])
    again = [one for result in journal.replayed(site.start, [fewer], site.settings) for one in result.transitions]
    assert again != [one for one in site.decided if type(one) is type(again[0])]


def test_a_quiet_day_of_a_dozen_phones_stays_small() -> None:
    site = Recorded()
    site.flows = lambda at_s: tuple(phone(number, at_s) for number in range(11, 23))
    size = batches = 0
    for _ in range(6):
        site.run(300)
        batch = site.recorder.take()
        assert batch is not None
        size += len(zlib.compress(journal.packed(batch)))
        batches += 1
    assert size / batches * 288 < DAY_BYTES_MAX


def test_what_no_disk_takes_is_bounded_and_the_loss_is_told_clause_c5() -> None:
    site = Recorded()
    recorder = journal.Recorder()
    before = site.state
    for number in range(journal.TURNS_MAX + 500):
        fact = FlowsSeen((), float(number), float(number))
        now = Instant(2000.0 + number, "boot0000")
        recorder.add(before, (fact,), now, turn(before, (fact,), now, site.settings))
    assert recorder.size <= journal.TURNS_MAX
    batch = recorder.take()
    assert batch is not None
    assert (batch.lost, len(batch.turns)) == (500, journal.TURNS_MAX)
    assert recorder.take() is None


def test_many_rows_are_to_be_taken_before_their_time_clause_c5_x3() -> None:
    site = Recorded()
    recorder = journal.Recorder()
    before = site.state
    for number in range(3):
        assert not recorder.full
        flows = tuple(phone(own, number * 600.0) for own in range(journal.ROWS_MAX // 3 + 1))
        fact = FlowsSeen(flows, float(number), float(number))
        now = Instant(2000.0 + number, "boot0000")
        recorder.add(before, (fact,), now, turn(before, (fact,), now, site.settings))
    assert recorder.full
    assert recorder.take() is not None
    assert not recorder.full


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x93\x01\x02\x03", journal.packed(journal.Batch("b", ()))[:-1]])
def test_bytes_that_are_none_are_refused_clause_x3(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        journal.unpacked_batch(data)
    with pytest.raises(msgspec.MsgspecError):
        journal.unpacked_state(data)
