"""The judgement of the story of hands at the router, from events made by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hil.bench import Event, Options
from hil.scenarios import drift
from tests.bench.fake import FakeBench, Product

THING = f"{drift.FILTER} voice-out"
FLUSH = "/system/scheduler flush"


def note(t: float, event: str, **fields: Any) -> Event:
    return {"t": t, "source": "bench", "event": event, **fields}


def status(t: float, label: str, said: list[list[Any]], faults: list[str] | None = None, **rows: Any) -> Event:
    found = {"found": [], "differing": 0, "mended": 0, "led_by": None, **rows}
    return note(t, "status", label=label, rival=False, answered=True, faults=faults or [], rows=found, said=said)


def edit(t: float, name: str = "row disabled") -> Event:
    return note(t, "edit", name=name, menu=drift.FILTER, kind="disabled", thing=THING)


def look(t: float, wrong: list[str], label: str = "first batch") -> Event:
    return note(t, "rows", label=label, wrong=wrong)


SAID = [[105.0, "drift found", THING, "disabled"]]
GOOD = [edit(100.0), look(101.0, [drift.FILTER]), look(110.0, []), status(110.0, "first batch", SAID)]


def test_an_edit_is_right_when_its_menu_is_and_stays_so() -> None:
    found = drift.figures(GOOD)
    assert found["put_right_s"] == [pytest.approx(10.0)]
    assert found["named_by_their_code"] == [0.0]
    worse = [*GOOD[:3], look(112.0, [drift.FILTER]), look(115.0, []), GOOD[3]]
    assert drift.figures(worse)["put_right_s"] == [pytest.approx(15.0)]
    assert drift.figures([*GOOD[:3], look(112.0, [drift.FILTER]), GOOD[3]])["put_right_s"] == []


@pytest.mark.parametrize(
    "said",
    [
        [],
        [[105.0, "drift found", THING, "deleted"]],
        [[105.0, "drift found", FLUSH, "disabled"]],
        [[161.0, "drift found", THING, "disabled"]],
        [[90.0, "drift found", THING, "disabled"]],
    ],
)
def test_an_edit_called_by_another_name_or_at_another_time_is_not_named(said: list[list[Any]]) -> None:
    assert drift.figures([*GOOD[:3], status(110.0, "first batch", said)])["named_by_their_code"] == [1.0]


@pytest.mark.parametrize(
    ("wrong", "left", "faults", "expected"),
    [
        (["/system/scheduler"], True, ["router_rows_fought_over"], 1.0),
        ([], True, ["router_rows_fought_over"], 0.0),
        (["/system/scheduler"], False, ["router_rows_fought_over"], 0.0),
        (["/system/scheduler"], True, [], 0.0),
    ],
)
def test_a_fight_is_left_and_named(wrong: list[str], left: bool, faults: list[str], expected: float) -> None:
    rows = {"found": [{"thing": FLUSH, "left": left}]}
    events = [look(200.0, wrong, "fight"), status(200.0, "fight", [], faults, **rows)]
    assert drift.figures(events)["left_after_the_second_edit"] == [expected]


def test_leaders_are_counted() -> None:
    names = [["a"], ["a"], [], ["b"], ["b"]]
    events = [note(300.0 + index, "leader", names=one) for index, one in enumerate(names)]
    found = drift.figures(events)
    assert (found["other_leaders_at_once"], found["changes_of_leader"]) == ([0.0], [2.0])
    fought = [note(300.0 + index, "leader", names=one) for index, one in enumerate([["a"], ["b"], ["a"], ["a", "b"]])]
    found = drift.figures(fought)
    assert (found["other_leaders_at_once"], found["changes_of_leader"]) == ([1.0], [4.0])


def test_what_is_found_in_quiet_counts_and_an_agent_that_is_silent_has_no_quiet() -> None:
    assert drift.figures([status(60.0, "quiet ends", [])])["findings_in_quiet"] == [0.0]
    assert drift.figures([status(60.0, "quiet ends", SAID, mended=1)])["findings_in_quiet"] == [2.0]
    silent = {**status(60.0, "quiet ends", []), "answered": False, "rows": None}
    assert drift.figures([silent])["findings_in_quiet"] == []


class Router(FakeBench):
    """Answers late; an agent that is busy answers at the third question."""

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        self.time_s += 20.0
        return []

    async def note_status(self, label: str, *, rival: bool = False) -> Event:
        asked = sum(event["event"] == "status" for event in self.timeline)
        return self.observe("status", label=label, rival=rival, answered=asked == 2, faults=[], rows=None, said=[])


def test_an_edit_is_noted_before_the_router_has_it() -> None:
    bench = Router(Options(), Product())
    asyncio.run(drift.Hands(bench).do(drift.Edit("x", drift.FILTER, "disabled", THING, ("/x",))))
    assert [event["t"] for event in bench.timeline] == [1000.0]


def test_an_agent_that_is_busy_is_asked_again() -> None:
    bench = Router(Options(), Product())
    asyncio.run(drift._status(bench, "quiet ends"))
    assert [event["answered"] for event in bench.timeline] == [False, False, True]


def test_controls_bite_only_where_edits_stay() -> None:
    two = [status(400.0, "two agents", [], ["router_held_by_other"], led_by="x"), status(400.0, "two agents", [])]
    stayed = [*GOOD, *two, look(500.0, [drift.FILTER, drift.MANGLE], "control")]
    assert set(drift.controls(stayed).values()) == {"bit"}
    mended = [*GOOD, *two, look(500.0, [], "control")]
    assert drift.controls(mended)["edits stay without an agent"].startswith("did not bite")
