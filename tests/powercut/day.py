"""The commits of a day as the agent makes them: the core's own turns, the recorder's own batches, the loop's own pace.

``python -m tests.powercut.day`` prints what they write to the block device. Quiet stretches and one incident of a
quarter of an hour on LTE, with six phones, are run through the core once; the day is put together from them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache

import msgspec

from edgeagent.core import journal
from edgeagent.core.facts import Fact, Flow, Instant
from edgeagent.core.failover import HOME
from edgeagent.core.turn import Turn, kept
from edgeagent.daemon.loop import BATCH_AWAY_S, BATCH_S, STATE_S
from edgeagent.store.records import Outgoing, Record
from tests.core.driver import LTE, WAN, Site
from tests.powercut.budget import Commit, day_bytes

DAY_S, OUTAGE_S, AROUND_S = 86400.0, 900.0, 300.0
INCIDENTS = 4
BOOT = "boot0000"


class Recording(Site):
    """A site under the core that commits as the loop does."""

    def __init__(self) -> None:
        self.recorder = journal.Recorder()
        self.commits: list[tuple[float, list[Record], list[Outgoing], bytes]] = []
        self.batched_s = self.state_s = float("-inf")
        super().__init__()

    def tell(self, *facts: Fact) -> Turn:
        before = self.state
        result = super().tell(*facts)
        now = Instant(self.now_s, BOOT, 1.7e9 + self.now_s, "synced")
        self.recorder.add(before, facts, now, result)
        every_s = BATCH_S if self.state.place.phase == HOME else BATCH_AWAY_S
        if result.transitions or result.notices or self.now_s - self.batched_s >= every_s:
            self._commit(result, now)
        return result

    def _commit(self, result: Turn, now: Instant) -> None:
        self.batched_s = self.now_s
        batch = self.recorder.take()
        records = [] if batch is None else [Record("facts", now, journal.packed(batch))]
        records += [Record(transition.kind, now, transition.data) for transition in result.transitions]
        if self.now_s - self.state_s >= STATE_S:
            self.state_s = self.now_s
            records.append(Record("state", now, journal.packed(self.state)))
        mails = [
            Outgoing(f"{notice.incident}.{notice.kind}.{notice.audience}@x", notice.incident, notice.audience,
                     notice.kind, notice, now)
            for notice in result.notices
        ]  # fmt: skip
        self.commits.append((self.now_s, records, mails, msgspec.msgpack.encode(kept(self.state, BOOT))))


def _phone(number: int, at_s: float, address: str) -> Flow:
    source = f"192.168.88.{number}"
    sent = int(at_s / 60 + number / 6) * 700
    return Flow("udp", source, 5060, "203.0.113.10", 5060, address, sent, sent, media=False, idle_s=at_s % 60)


@cache
def _lived() -> tuple[tuple[Commit, ...], tuple[Commit, ...]]:
    """The commits of an hour of quiet, and of an incident with its mails."""
    site = Recording()
    site.flows = lambda at_s: tuple(
        _phone(number, at_s, LTE if site.state.place.phase == "away" else WAN) for number in range(11, 17)
    )
    site.run(STATE_S + BATCH_S)
    quiet = _silences(site.commits[2:])
    site.commits.clear()
    cut_s = site.now_s
    site.alive = lambda path, at_s: path != "primary" or not cut_s <= at_s < cut_s + OUTAGE_S
    site.run(OUTAGE_S + AROUND_S)
    return quiet, _silences(site.commits)


def _silences(commits: list[tuple[float, list[Record], list[Outgoing], bytes]]) -> tuple[Commit, ...]:
    """Each with the time until the next; a mail is marked before it is handed over, and when it was taken."""
    found: list[Commit] = []
    ends = [at_s for at_s, *_ in commits[1:]] + [commits[-1][0] + BATCH_S]
    for (at_s, records, mails, state), end_s in zip(commits, ends, strict=True):
        found.append(Commit(end_s - at_s, records, mails, state))
        found += [Commit(6.0, sent=mail.message_id) for mail in mails for _ in range(2)]
    return tuple(found)


def usual_day() -> Iterator[Commit]:
    """Four incidents, and quiet for the rest."""
    quiet, incident = _lived()
    for _ in range(INCIDENTS):
        yield from incident
    left_s, index = DAY_S - INCIDENTS * (OUTAGE_S + AROUND_S), 0
    while left_s > 0:
        yield quiet[index % len(quiet)]
        left_s -= BATCH_S
        index += 1


if __name__ == "__main__":
    sys.stdout.write(f"{day_bytes(usual_day) / 1e6:.1f} MB a day, {sum(1 for _ in usual_day())} commits\n")
