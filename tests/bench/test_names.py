"""The verdict of names-on-lte, on events that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from hil import scenario
from hil.bench import Event
from hil.report import report
from hil.scenarios import names_on_lte
from hil.virtual import addresses as plan

SWITCHED_S, WATCHED_S, OFF_S = 100.0, 340.0, 340.0


def registered(t: float, user: str, expires_s: int = 60) -> Event:
    fields = {"user": user, "address": plan.ROUTER_LTE, "expires_s": expires_s}
    return {"t": t, "source": "kamailio", "event": "registered", **fields}


def bench(t: float, event: str, **fields: Any) -> Event:
    return {"t": t, "source": "bench", "event": event, **fields}


def totals(t: float, label: str, packets: int) -> Event:
    counted = {"lte/up/dns": {"packets": packets, "bytes": 80 * packets}}
    return {"t": t, "source": "emulator", "event": "totals", "label": label, "totals": counted}


def run_of(
    *,
    lost: str = "",
    late: str = "",
    stray: int = 0,
    vain: bool = False,
    asked: int = 50,
    kept: str = "",
    leaked: int = 80,
) -> dict[str, Any]:
    """The report of a run in which this went wrong."""
    events = [bench(SWITCHED_S, "switched"), totals(SWITCHED_S + 2.0, "after switch", 0)]
    for user, limit_s in names_on_lte.LIMITS_S.items():
        first_s = SWITCHED_S + (limit_s + 5.0 if user == late else limit_s - 5.0)
        expires_s = 120 if user == "p2" else 60
        moments = [first_s + step * 0.9 * expires_s for step in range(5)]
        events += [registered(t, user, expires_s) for t in moments if t < WATCHED_S and (user != lost or t == first_s)]
    for host, server in (("ph1", plan.ROUTER_LAN), *names_on_lte.OTHERS):
        voice = host == "ph1"
        size = 240 if voice else stray
        events.append(
            bench(
                110.0, "question", host=host, server=server, label="asks", answered=voice and not vain, lte_bytes=size
            )
        )
    events += [totals(WATCHED_S, "before return", asked), bench(WATCHED_S, "watched"), bench(OFF_S, "names off")]
    if kept:
        events.append(registered(OFF_S + 40.0, kept))
    control = {"host": "pc", "server": plan.PROVIDER_DNS, "label": names_on_lte.CONTROL, "answered": True}
    events += [bench(OFF_S + 75.0, "names off watched"), bench(OFF_S + 76.0, "question", **control, lte_bytes=leaked)]
    events.append(bench(OFF_S + 80.0, "story ended"))
    found = scenario.find("names-on-lte")
    run = scenario.judged(found, sorted(events, key=lambda event: float(event["t"])), 1, "")
    return report(found.name, "7.22", 1, found.measures, [run])


def test_a_run_in_which_no_phone_is_lost_passes() -> None:
    said = run_of()
    assert said["outcome"] == "passed", said


@pytest.mark.parametrize(
    ("wrong", "figure"),
    [
        ({"lost": "p1"}, "expired_bindings"),
        ({"stray": 80}, "bytes_of_other_hosts"),
        ({"vain": True}, "phones_asking_in_vain"),
        ({"asked": 9}, "questions_too_few"),
    ],
)
def test_each_thing_that_must_not_be_fails_alone(wrong: dict[str, Any], figure: str) -> None:
    said = run_of(**wrong)
    assert said["outcome"] == "failed"
    assert [name for name, entry in said["figures"].items() if not entry["ok"]] == [figure]


def test_a_phone_that_comes_too_late_fails() -> None:
    assert not run_of(late="p4")["figures"]["phones_late"]["ok"]


def test_a_story_that_was_given_up_fails() -> None:
    events = [bench(1.0, "cut", at_s=1.0), bench(2.0, "given up"), bench(2.0, "story ended")]
    found = scenario.find("names-on-lte")
    run = scenario.judged(found, events, 1, "")
    assert report(found.name, "7.22", 1, found.measures, [run])["outcome"] == "failed"


def test_questions_that_are_never_seen_make_the_run_an_error() -> None:
    assert run_of(leaked=0)["outcome"] == "error"


def test_phones_that_need_no_redirection_make_the_run_an_error() -> None:
    said = run_of(kept="p4")
    assert said["outcome"] == "error"
    assert "p4 registered without it" in said["problems"][0]
