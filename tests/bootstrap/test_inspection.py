"""What a router prints and what is made of it, where no virtual router prints it so."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgeagent.routeros import access, inspection
from edgeagent.routeros.errors import RouterProtocolError
from edgeagent.routeros.inspection import Question
from hil.virtual.routeros.kernel_syntax import quoted

SCHEMAS = "EDGEAGENT_ROUTEROS_SCHEMAS"
USERS = Question("/user", ("name", "comment"))


@pytest.mark.parametrize(
    ("record", "utc"),
    [
        (("nov/25/2026", "11:00:00", "+00:00"), datetime(2026, 11, 25, 11, tzinfo=UTC)),
        (("2026-11-25", "13:00:00", "+02:00"), datetime(2026, 11, 25, 11, tzinfo=UTC)),
        (("2026-11-25", "05:30:00", "-05:30"), datetime(2026, 11, 25, 11, tzinfo=UTC)),
        (("2026-11-25", "06:00:00", "-18000"), datetime(2026, 11, 25, 11, tzinfo=UTC)),
        (("jan/02/1970", "00:00:07", ""), datetime(1970, 1, 2, 0, 0, 7, tzinfo=UTC)),
        (("tomorrow", "noon", "+00:00"), None),
    ],
)
def test_the_routers_time_in_every_spelling(record: tuple[str, str, str], utc: datetime | None) -> None:
    found = dict(zip(("date", "time", "gmt-offset"), record, strict=True))
    assert inspection.router_time(found) == utc


def test_answers_are_read_line_by_line_and_anything_else_is_refused() -> None:
    assert inspection.answer(USERS, "") == []
    printed = "name=a\ncomment=one\ntwo\n\nname=b\ncomment="
    rows = [{"name": "a", "comment": "one\ntwo\n"}, {"name": "b", "comment": ""}]
    assert inspection.answer(USERS, printed) == rows
    for wrong in ("bad command name usr (line 1 column 2)", "name=a", "comment=a\nname=b", "\nname=a\ncomment="):
        with pytest.raises(RouterProtocolError):
            inspection.answer(USERS, wrong)


def test_lists_and_flags_are_given_back_as_they_can_be_set() -> None:
    row = {"port": "8729", "address": "192.0.2.0/24;198.51.100.0/24", "certificate": "", "disabled": "true"}
    before = access.service({"api-ssl": [row]})
    (line,) = access.undo_lines("edgeagent", [], before)
    assert line.endswith(
        '/ip service set $edgeService address="192.0.2.0/24,198.51.100.0/24" certificate="none" disabled=yes'
    )


def test_a_group_refuses_by_name_all_that_this_version_has_besides() -> None:
    line = access.group_line({"group": [{"name": "full", "policy": "local;ssh;read;write;test;api;!dude;rest-api"}]})
    assert line.count("policy=api,read,test,write,!dude,!local,!rest-api,!ssh ") == 2


@pytest.mark.parametrize("text", ["", "plain", 'a"b', "$x", "back\\slash", "ä", "a;b{c}[d]", "line\nline", " x ", "#"])
def test_what_is_quoted_is_what_the_console_of_the_bench_writes(text: str) -> None:
    shown = access.quoted(text)
    assert shown.strip('"') == quoted(text).strip('"').replace("\\n", "\\0A")


@pytest.mark.parametrize("prefixes", ["", "0.0.0.0/0", "192.0.2.0/24", "192.0.2.9", "192.0.2.2/32,192.0.2.9/32", "x"])
def test_a_service_open_to_more_than_the_agent_is_not_as_wanted(prefixes: str) -> None:
    row = {"port": "8729", "address": prefixes, "certificate": "edgeagent", "disabled": "false"}
    found: inspection.Found = {"api-ssl": [row], "group": [], "user": [], "certificate": []}
    wanted = access.Access("edgeagent", "192.0.2.2", "")
    assert "service" in access.lacking(found, wanted)
    for good in ("192.0.2.2", "192.0.2.2/32"):
        assert "service" not in access.lacking({**found, "api-ssl": [{**row, "address": good}]}, wanted)


def test_every_property_asked_for_is_one_of_a_real_router() -> None:
    folder = os.environ.get(SCHEMAS)
    if folder is None:
        pytest.skip(f"{SCHEMAS} does not name a folder with RouterOS schema files")
    menus = json.loads((Path(folder) / "schema-7.22.3.json").read_text("utf-8"))["menus"]
    for question in (*inspection.QUESTIONS.values(), inspection.DEVICE_MODE):
        known = menus[question.menu.replace(" ", "/")]["commands"]["get"]["value-name"]["v"]
        assert set(question.fields) <= set(known), question.menu
