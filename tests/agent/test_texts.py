"""Every text exists, renders whatever the data, and stands nowhere but in the texts."""

from __future__ import annotations

import argparse
import ast
import re
import string
from pathlib import Path

import pytest

from edgeagent import texts
from edgeagent.cli.main import parser
from edgeagent.core.faults import CATALOGUE
from edgeagent.core.intents import Notify
from edgeagent.core.settings import Settings
from edgeagent.texts import en, fault, letter, screen

CORE = Path(texts.__file__).parents[1] / "core"
KINDS = ("failover", "restored", "summary", "digest", "fault", "cleared", "fault summary", "fault digest")
TOLD = [(kind, audience) for kind in KINDS for audience in Settings("s", "a", ()).audiences]
TOLD.append(("drifted", "support"))  # customers have no hand in it
NOW = 1_785_500_000.0
DATA: dict[str, texts.Value] = {
    "path": "lte",
    "cause": "probes",
    "began_wall": NOW - 3,
    "moved_wall": NOW,
    "returned_wall": NOW + 4000,
    "wall_quality": "synced",
    "phones": 6,
    "calls": 2,
    "away_s": 4000.0,
    "backup_died": 1,
    "code": "backup_down",
    "since_wall": NOW,
    "cleared_wall": NOW + 100,
    "lasted_s": 100.0,
    "count": 2,
    "rows": "/ip/route default-edge-lte: deleted; /ip/firewall/filter voice-out: disabled",
}


def written(kind: str, audience: str, data: dict[str, texts.Value], name: str = "Bakery") -> texts.Letter:
    about, _, plain = kind.rpartition(" ")
    parts = (Notify("b00t-1f", "fault", audience, data), Notify("b00t-1f", "cleared", audience, data)) if about else ()
    if plain == "digest" and not about:
        parts = (Notify("b00t-1f", "failover", audience, data), Notify("b00t-1f", "restored", audience, data))
    return letter(Notify("b00t-1f", plain, audience, data, parts), "site-7", name, "America/Chicago")


@pytest.mark.parametrize(
    "code",
    [
        *("router_login_refused", "router_unusable"),
        *("mail_login_refused", "mail_unusable", "mail_untrusted", "mail_refused", "mail_unreachable"),
    ],
)
def test_what_a_running_agent_does_not_see_corrected_is_told_with_the_restart(code: str) -> None:
    """systemd hands a password over at the start, and site.toml is read then."""
    assert "sudo systemctl restart edgeagent" in fault(code)[2]


@pytest.mark.parametrize("code", list(CATALOGUE))
def test_every_fault_says_what_happened_what_it_means_what_to_do_and_who_can(code: str) -> None:
    parts = fault(code)
    assert len(parts) == 4
    assert all(part.strip() for part in parts)
    for audience in CATALOGUE[code].audience:
        assert audience in parts[3]


def test_no_text_is_left_of_a_fault_that_is_gone() -> None:
    assert en.FAULTS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize("told", TOLD)
def test_every_notice_has_a_subject_and_a_body(told: tuple[str, str]) -> None:
    assert en.SUBJECTS[told].strip()
    assert en.BODIES[told]
    assert all(part.strip() for part in en.BODIES[told])
    assert set(en.SUBJECTS) == set(en.BODIES) == set(TOLD)


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize(
    "data",
    [
        DATA,
        {},
        dict.fromkeys(DATA),
        {**DATA, "began_wall": None, "wall_quality": "unknown", "cause": ""},
        {**DATA, "calls": 0, "phones": 0, "away_s": 0.0, "backup_died": 0},
        {**DATA, "calls": 1, "away_s": 59.6, "moved_wall": 0.0},
        {**DATA, "cause": "a cause of a later version", "path": "lte2", "away_s": 1e6},
        {**DATA, "began_wall": -1.0},
        {**DATA, "began_wall": 1e300, "moved_wall": float("nan"), "away_s": float("inf")},
    ],
)
def test_every_template_renders_with_any_data(told: tuple[str, str], data: dict[str, texts.Value]) -> None:
    found = written(*told, data)
    for text in (found.subject, found.text, found.html):
        assert text.strip()
        assert not re.search(r"\{\w+\}|None", text), text
    assert len(found.subject.splitlines()) == 1
    assert found.text.endswith("\n")


def test_times_are_the_sites_and_carry_their_offset_clause_n6() -> None:
    found = written("failover", "support", {**DATA, "began_wall": NOW, "moved_wall": NOW + 86400 * 180})
    assert re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (\S+?)\.", found.text) == ["-0500", "-0600"]


@pytest.mark.parametrize("told", TOLD)
def test_an_unset_clock_is_owned_up_to_clause_n6(told: tuple[str, str]) -> None:
    assert en.CLOCK_UNSURE not in written(*told, DATA).text
    for quality in ("unknown", None):
        found = written(*told, {**DATA, "wall_quality": quality, "began_wall": None, "returned_wall": None})
        assert en.CLOCK_UNSURE in found.text
        assert "1970" not in found.text


def test_the_number_of_calls_is_said_in_plain_words() -> None:
    for calls, words in ((0, ""), (1, "One call"), (7, "7 calls")):
        found = written("restored", "customer", {**DATA, "calls": calls}).text
        assert words in found
        assert ("call" in found) == bool(calls)


def test_a_backup_that_died_is_named_to_support_only() -> None:
    assert en.BACKUP_DIED.strip() in written("restored", "support", DATA).text
    assert en.BACKUP_DIED.strip() not in written("restored", "customer", DATA).text


@pytest.mark.parametrize("told", TOLD)
def test_html_is_escaped_and_braces_are_text(told: tuple[str, str]) -> None:
    found = written(*told, DATA, name="<b>Tom & {site}</b>")
    assert "<b>" not in found.html
    if "Tom" in found.text:
        assert "<b>Tom & {site}</b>" in found.text
        assert "&lt;b&gt;Tom &amp; {site}" in found.html


def test_line_breaks_never_reach_a_subject() -> None:
    for told in TOLD:
        found = written(*told, {**DATA, "path": "a\r\nBcc: x", "cause": "b\nc"}, name="x\u2028y")
        assert len(found.subject.splitlines()) == 1


@pytest.mark.parametrize("code", list(en.SCREENS))
def test_every_screen_line_renders(code: str) -> None:
    fields = [field for _, field, _, _ in string.Formatter().parse(en.SCREENS[code]) if field]
    assert "{" not in screen(code, **dict.fromkeys(fields, 1.5))


def test_no_help_is_left_of_a_command_that_is_gone() -> None:
    known = {""}

    def look(at: argparse.ArgumentParser, name: str) -> None:
        for action in at._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command, below in action.choices.items():
                    known.add(command)
                    look(below, command)
            else:
                known.update(f"{name} {option}".strip() for option in action.option_strings)
                known.add(f"{name} {action.dest}".strip())

    look(parser(), "")
    assert set(en.HELP) <= known


def test_no_prose_stands_in_the_core() -> None:
    """A text with several words is for a person, and belongs into the texts."""
    allowed = {"a phone is about to refresh"}  # the reason of a deadline, read by developers only
    found = []
    for path in sorted(CORE.glob("*.py")):
        tree = ast.parse(path.read_text())
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in documentation:
                continue
            if node.value not in allowed and len(re.findall(r"[A-Za-z]{2,} ", node.value)) > 3:
                found.append(f"{path.name}:{node.lineno} {node.value!r}")
    assert found == []
