"""What may leave the outbox, as tables: the queue, what was sent, the time -> what to do."""

from __future__ import annotations

import pytest

from edgeagent.core.facts import Instant
from edgeagent.core.intents import Notify
from edgeagent.core.post import DAY_S, HOUR_S, Done, Drop, Merge, Send, Unsent, plan
from edgeagent.core.settings import MailSettings

SETTINGS = MailSettings()
BOOT, OTHER = "boot-1", "boot-0"
T0 = 100_000.0


def at(seconds: float, boot: str = BOOT, wall: float | None = None, quality: str = "synced") -> Instant:
    return Instant(T0 + seconds, boot, 1.7e9 + seconds if wall is None else wall, quality)


def unsent(
    kind: str,
    incident: str = "i1",
    created_s: float = 0.0,
    audience: str = "support",
    created: Instant | None = None,
    maybe_taken: bool = False,
) -> Unsent:
    notice = Notify(incident, kind, audience, {"n": created_s})
    return Unsent(f"{incident}.{kind}.{audience}", notice, created or at(created_s), maybe_taken)


def actions(
    queue: list[Unsent], now_s: float, done: list[Done] | None = None, retry: dict[str, float] | None = None
) -> list[object]:
    return list(plan(queue, done or [], retry or {}, at(now_s), SETTINGS).actions)


def sent(count: int, ago_s: float, incident: str = "i0") -> list[Done]:
    return [Done("support", incident, at(-ago_s)) for _ in range(count)]


def test_an_opening_waits_for_its_closing_and_then_leaves_clause_n4() -> None:
    queue = [unsent("failover")]
    waiting = plan(queue, [], {}, at(44.9), SETTINGS)
    assert (waiting.actions, waiting.next_s) == ((), T0 + 45.0)
    assert actions(queue, 45.0) == [Send("i1.failover.support")]


def test_both_halves_unsent_become_one_summary_clause_n1() -> None:
    (merge,) = actions([unsent("failover"), unsent("restored", created_s=40.0)], 40.0)
    assert isinstance(merge, Merge)
    assert merge.ids == ("i1.failover.support", "i1.restored.support")
    assert (merge.notice.kind, [part.kind for part in merge.notice.parts]) == ("summary", ["failover", "restored"])


def test_what_may_have_been_taken_is_never_merged_clause_n3() -> None:
    queue = [unsent("failover", maybe_taken=True), unsent("restored", created_s=40.0)]
    assert actions(queue, 50.0) == [Send("i1.failover.support"), Send("i1.restored.support")]


def test_within_a_thread_nothing_overtakes_and_threads_do_not_hold_each_other() -> None:
    queue = [unsent("failover", maybe_taken=True), unsent("restored"), unsent("failover", "i2")]
    retry = {"i1.failover.support": T0 + 100.0}
    assert actions(queue, 50.0, retry=retry) == [Send("i2.failover.support")]


def test_audiences_and_faults_count_for_themselves_clause_n5() -> None:
    queue = [
        unsent("failover"),
        unsent("failover", audience="customer"),
        unsent("fault", "fault-backup_down-1"),
    ]
    full = sent(6, 10.0)
    assert actions(queue, 50.0, full) == [Send("i1.failover.customer"), Send("fault-backup_down-1.fault.support")]


@pytest.mark.parametrize(("count", "ago_s", "free_s"), [(6, 100.0, HOUR_S - 100.0), (20, 7200.0, DAY_S - 7200.0)])
def test_the_cap_of_the_hour_and_of_the_day_hold_and_say_until_when_clause_n5(
    count: int, ago_s: float, free_s: float
) -> None:
    queue = [unsent("failover")]
    held = plan(queue, sent(count, ago_s), {}, at(60.0), SETTINGS)
    assert held.actions == ()
    assert held.next_s == pytest.approx(T0 + free_s, abs=0.1)
    assert held.next_s is not None
    freed = Instant(held.next_s, BOOT, 1.7e9, "synced")
    assert plan(queue, sent(count, ago_s), {}, freed, SETTINGS).actions == (Send("i1.failover.support"),)


def test_once_there_is_room_for_one_all_that_waits_is_one_digest_clause_n5() -> None:
    queue = [unsent("restored", "i1"), unsent("failover", "i2"), unsent("failover", "i3")]
    (merge,) = actions(queue, 60.0, sent(5, 100.0))
    assert isinstance(merge, Merge)
    assert [part.incident for part in merge.notice.parts] == ["i1", "i2", "i3"]
    assert merge.notice.kind == "digest"
    again = [Unsent("d", merge.notice, at(60.0)), unsent("restored", "i3", created_s=70.0)]
    (more,) = actions(again, 80.0, sent(5, 100.0))
    assert isinstance(more, Merge)
    assert [part.incident for part in more.notice.parts] == ["i1", "i2", "i3", "i3"]
    assert more.notice.incident != merge.notice.incident


def test_what_waits_for_its_next_try_keeps_no_place_of_what_does_not_clause_n4() -> None:
    stuck = [unsent("failover", f"s{number}", maybe_taken=True) for number in range(6)]
    retry = {one.id: T0 + 900.0 for one in stuck}
    assert actions([*stuck, unsent("failover")], 60.0, retry=retry) == [Send("i1.failover.support")]


def test_a_full_digest_takes_no_more_and_those_behind_it_make_another_clause_n5() -> None:
    parts = tuple(Notify(f"p{number}", "failover", "support", {}) for number in range(60))
    full = Unsent("d", Notify("digest-1", "digest", "support", {}, parts), at(0.0))
    queue = [full, *(unsent("failover", f"i{number}") for number in range(8))]
    (first,) = actions(queue, 60.0, sent(5, 100.0))
    assert isinstance(first, Merge)
    assert len(first.notice.parts) == 64
    full = Unsent("d", first.notice, at(60.0))
    (second,) = actions([full, *queue[5:]], 80.0, sent(5, 100.0))
    assert isinstance(second, Merge)
    assert [part.incident for part in second.notice.parts] == ["i4", "i5", "i6", "i7"]


def test_a_digest_of_faults_stays_among_the_faults() -> None:
    queue = [unsent("fault", f"fault-x-{number}") for number in range(8)]
    (merge,) = actions(queue, 60.0)
    assert isinstance(merge, Merge)
    assert merge.notice.incident.startswith("fault-")


def test_seven_days_are_the_end_and_no_second_less_clause_n2() -> None:
    queue = [unsent("failover")]
    assert Drop("i1.failover.support", "too old") not in actions(queue, 7 * DAY_S)
    assert actions(queue, 7 * DAY_S + 1) == [Drop("i1.failover.support", "too old")]


@pytest.mark.parametrize(
    ("created", "dropped"),
    [
        (Instant(5.0, OTHER, 1.7e9 - 8 * DAY_S, "synced"), True),
        (Instant(5.0, OTHER, 1.7e9 - 8 * DAY_S, "unknown"), False),
        (Instant(5.0, OTHER, None, "unknown"), False),
        (Instant(5.0, OTHER, 1.7e9 + DAY_S, "synced"), False),
    ],
)
def test_the_age_of_another_boots_mail_is_known_by_a_trusted_clock_only_clause_n2(
    created: Instant, dropped: bool
) -> None:
    found = actions([unsent("failover", created=created)], 0.0)
    assert found == ([Drop("i1.failover.support", "too old")] if dropped else [Send("i1.failover.support")])


@pytest.mark.parametrize(
    ("sent_at", "now", "held"),
    [
        (Instant(9e9, OTHER, 1.7e9 - 60.0, "synced"), at(50.0), True),
        (Instant(9e9, OTHER, 1.7e9 - 3700.0, "synced"), at(50.0), False),
        (Instant(9e9, OTHER, 1.7e9 + 60.0, "synced"), at(50.0), False),  # the clock went backwards
        (Instant(9e9, OTHER, 1.7e9 - 60.0, "unknown"), at(50.0), False),
        (Instant(9e9, OTHER, None, "unknown"), at(50.0), False),
        (Instant(9e9, OTHER, 1.7e9 - 60.0, "synced"), at(50.0, quality="unknown"), False),
        (Instant(9e9, OTHER, 1.7e9 - 60.0, "synced"), Instant(T0 + 50.0, BOOT, None, "unknown"), False),
        # Within one boot the cap holds whatever the clock says.
        (Instant(T0, BOOT, 1.6e9, "unknown"), at(50.0), True),
        (Instant(T0, BOOT, None, "unknown"), Instant(T0 + 50.0, BOOT, None, "unknown"), True),
        (Instant(T0, BOOT, 1.7e9 + 60.0, "synced"), at(50.0), True),
    ],
)
def test_what_an_earlier_boot_sent_counts_by_a_trusted_time_of_day_and_else_not_clauses_c4_n5(
    sent_at: Instant, now: Instant, held: bool
) -> None:
    done = [Done("support", "i0", sent_at)] * 6
    found = plan([unsent("failover")], done, {}, now, SETTINGS)
    assert found.actions == (() if held else (Send("i1.failover.support"),))


def test_a_clock_that_is_behind_at_boot_holds_no_mail_back_clauses_n4_c4() -> None:
    """A board without a battery: after a reboot it is 2025 again until a time server has been asked."""
    done = [Done("support", f"i{n}", Instant(9e9, OTHER, 1.8e9 - 60.0 * n, "synced")) for n in range(25)]
    behind = Instant(60.0, BOOT, 1_735_689_600.0, "unknown")
    queue = [unsent("failover", created=Instant(10.0, BOOT, 1_735_689_550.0, "unknown"))]
    assert plan(queue, done, {}, behind, SETTINGS).actions == (Send("i1.failover.support"),)
    # Once the clock is set, those of the last day count again.
    synced = Instant(70.0, BOOT, 1.8e9 + 100.0, "synced")
    assert plan(queue, done, {}, synced, SETTINGS).actions == ()
