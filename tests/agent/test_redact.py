"""What may leave the site: shapes, words, pseudonyms, and what is searched for at the end (clauses X4 and P5)."""

from __future__ import annotations

import ast
import base64
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import edgeagent
from edgeagent.cli.known import program_words
from edgeagent.config.redact import (
    JOURNAL_KINDS,
    STATUS_KEYS,
    SYSTEM_WORDS,
    WITHHELD,
    Known,
    Redactor,
    found_secrets,
    searchable,
)
from edgeagent.core import status
from edgeagent.core.facts import Instant
from edgeagent.core.settings import PRIMARY_PROBING, PathSettings, Settings
from edgeagent.core.turn import first_state

SECRET = 'pa"ss\\wörd/+é'
WORDS = program_words()
NAMES = """
Mary James John Patricia Robert Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph Jessica
Thomas Sarah Charles Karen Lisa Nancy Daniel Betty Matthew Anthony Mark Sandra Donald Ashley Steven Kimberly Paul
Emily Andrew Donna Joshua Michelle Kenneth Carol Kevin Amanda Brian Melissa George Will Bill Rose Grace Joy June
Frank Bob Rob Pat Hope Faith Dean Grant Chase Miles Max Ray Guy Jack Alice Eve Zoe Jose Maria Wei Ahmed Olga Jan Hans
Smith Johnson Williams Brown Jones Garcia Miller Davis Wilson Anderson Taylor Moore Jackson Martin Lee Thompson White
Harris Clark Lewis Walker Hall Young King Green Baker Bell Bush Cook Ford Fox Hill Hunter Page Park Rice Stone Wood
Wells Marsh Banks Carter Turner Mason Webb Lane Fields Brooks Rivers Nguyen Lopez Schmidt Novak
"""


def redactor(**known: Any) -> Redactor:
    return Redactor(
        Known(
            **{
                "site": "site-7",
                "secrets": {"mail.password": SECRET},
                "names": ("Bakery, Main Street", "owner@bakery.example"),
                "own": frozenset({"192.0.2.2", "10.88.77.2", "2001:db8::2"}),
                "words": WORDS,
                **known,
            }
        )
    )


@pytest.mark.parametrize(
    "number",
    [
        "15550104477",
        "+15550104477",
        "+1 555 010 4477",
        "1-555-010-4477",
        "(555) 010-4477",
        "+1 (555) 010-4477",
        "555.010.4477",
        "555 010 4477",
        "0015550104477",
        "555-0104",
        "555.0104",
        "5550104",
        "01 23 45 67 89",
        "+44 20 7946 0958",
        "0 800 / 555 01 04",
        "1\u2013555\u2013010\u20134477",
        "%2B15550104477",
        "x15550104477y",
        "tel:+1-555-010-4477",
        "sip:+15550104477@pbx.example",
        "\u0661\u0665\u0665\u0665\u0660\u0661\u0660\u0664",
    ],
)
def test_a_telephone_number_goes_however_it_is_spelt_clause_x4(number: str) -> None:
    for way in (redactor().line, redactor().text):
        said = way(f"the router refused {number}, since 3.5 s")
        assert sum(sign.isdigit() for sign in said) == 2, said
        assert said.startswith("the router refused")
        assert said.endswith("since 3.5 s")


@pytest.mark.parametrize(
    "kept",
    [
        "2026-11-25 03:30:23,123 WARNING edgeagent.daemon.wiring: router",
        "2026-11-25T03:30:23+0000 edgeagent",
        "site-7",
        "mail site-7.f00dbabe-1f.failover.customer@provider.example not sent, again in 12.5 s",
        "incident f00dbabe-1f4e",
        "boot_id 0b1c2d3e-1234-5678-9abc-def012345678",
        "10.88.77.2",
        "127.0.0.1",
        "0.0.0.0/0",
        "2001:db8::2",
        "edge-lte-site",
        "since 12345.6 s",
    ],
)
def test_what_support_needs_stands(kept: str) -> None:
    assert redactor().line(kept) == kept
    assert redactor().text(kept) == kept


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ('From: "Zebulon Quackenbush" <sip:zeb@192.0.2.9>;tag=1', "zeb"),
        ('failure "Zebulon Quackenbush" <sip:2001@192.0.2.9>', "zeb"),
        ("caller=Zebulon Quackenbush", "zeb"),
        ("550 <zeb@far.example>: Zebulon Quackenbush unknown", "zeb"),
        ("Zebulon-Quackenbush's phone", "zeb"),
        ("zebulon_quackenbush", "zeb"),
        ("sips:zeb@pbx", "zeb"),
        ("to owner@bakery.example at Bakery, Main Street", "bakery"),
        ("BAKERY, MAIN STREET", "main street"),
        ("password=hunter2hunter2", "hunter2"),
        ("Authorization: Digest hunter2hunter2", "hunter2"),
        ("token hunter2hunter2", "hunter2"),
        ("-----BEGIN PRIVATE KEY-----\nMIIhunter2\n-----END PRIVATE KEY-----", "hunter2"),
        ("-----BEGIN PRIVATE KEY-----\nMIIhunter2 cut off", "hunter2"),
        (f"refused {SECRET}", "rd/+"),
        (json.dumps({"password": SECRET}), "rd/+"),
        (repr(SECRET), "rd/+"),
        (quote(SECRET, safe=""), "rd%2F"),
        (base64.b64encode(f"\0site-7\0{SECRET}".encode()).decode(), base64.b64encode(SECRET.encode())[6:12].decode()),
    ],
)
def test_secrets_persons_and_accounts_go_clause_x4(text: str, never: str) -> None:
    for way in (redactor().line, redactor().text):
        assert never.lower() not in way(text).lower()


def test_no_usual_name_is_one_of_our_words_clause_x4() -> None:
    """Names without a shape are told from words only by not being ours."""
    it = redactor()
    for name in NAMES.split():
        assert name not in it.text(f"550 mailbox of {name} unavailable")
        assert it.text(f"550 mailbox of {name} unavailable").startswith("550 mailbox of …")
    assert {"mailbox", "unavailable"} <= SYSTEM_WORDS


def test_addresses_get_pseudonyms_that_are_the_same_in_one_bundle_only() -> None:
    it = redactor()
    said = it.text(
        "from 192.168.88.31:5060 to 203.0.113.99, then 203.0.113.98 and again 203.0.113.99, aa:bb:cc:dd:ee:ff"
    )
    assert said == "from phone-1:5060 to far-1, then far-2 and again far-1, mac-1"
    assert it.text("2001:db8::99 fe80::1%eth0 192.168.88.31") == "far-3 phone-2 phone-1"
    assert it.aliases == {"far": 3, "phone": 2, "mac": 1}
    assert redactor().text("203.0.113.98") == "far-1"
    assert redactor().line("203.0.113.98 192.168.88.31 10.88.77.2") == "[address] 192.168.88.31 10.88.77.2"


def test_an_uplinks_own_address_goes_by_its_path() -> None:
    it = redactor()
    it.uplink("203.0.113.98", "lte")
    it.uplink("203.0.113.98 Zebulon", "primary")
    it.uplink("203.0.113.97", "Zebulon")
    assert it.text("203.0.113.98 203.0.113.97") == "uplink-lte far-1"


def test_values_keep_measurements_and_lose_what_may_be_a_number() -> None:
    it = redactor()
    found = it.value(
        {"calls": 2, "orig_bytes": 123456789, "at_wall": 1.7e9, "dialled": 15550104477, "up": True, "x": None}
    )
    assert list(found.values()) == [2, 123456789, 1.7e9, WITHHELD, True, None]
    assert it.value([15550104477], counted=True) == [15550104477]
    assert "15550104477" not in json.dumps(it.value({"15550104477": {"192.168.88.31": [15550104477, "lte"]}}))


def test_only_listed_rows_kinds_and_keys_leave() -> None:
    it = redactor()
    assert it.status({"path": "lte", "Zebulon": "lte"}) == {"path": "lte", "…": WITHHELD}
    assert it.record("path", {"path": "lte"}) == {"kind": "path", "data": {"path": "lte"}}
    assert it.record("dialled", {"path": "lte"})["data"] == WITHHELD
    keys = {"site.name": "lte", "mail.customer": ["lte"], "path.lte.interface": "lte", "path.lte.secret": "lte"}
    assert [*it.config(keys).values()] == [WITHHELD, WITHHELD, "lte", WITHHELD]


def test_every_row_of_the_status_and_every_kind_of_the_journal_was_thought_about() -> None:
    settings = Settings("site-7", "10.88.77.2", (PathSettings("primary", "wan", PRIMARY_PROBING),))
    document = status.document(first_state(settings), Instant(1.0, "boot-1"), settings)
    assert set(document) <= STATUS_KEYS
    kinds = set()
    for path in Path(edgeagent.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("Record", "Transition")
            )
            if named and isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
                kinds.add(node.args[0].value)
    assert {"path", "place"} <= kinds
    assert kinds - {"state"} <= JOURNAL_KINDS  # "state": the core's own memory, which stays


def test_a_secret_is_found_in_every_spelling_and_only_there() -> None:
    secrets = searchable({"mail.password": SECRET, "short": "12345", "site.key": "-----BEGIN X-----\nMIIabc\nsecond\n"})
    assert set(secrets) == {"mail.password", "site.key, line 1", "site.key, line 2"}
    spelt = [
        SECRET.encode(),
        json.dumps(SECRET, ensure_ascii=False).encode(),
        quote(SECRET).encode(),
        repr(SECRET).encode(),
    ]
    spelt += [base64.b64encode(b"x" * before + SECRET.encode() + b"yz") for before in range(7)]
    for content in spelt:
        if content != quote(SECRET).encode():  # quote leaves the slash alone
            assert found_secrets(b"a " + content + b" b", secrets) == ["mail.password"], content
    assert found_secrets(b"a MIIabc b", secrets) == ["site.key, line 1"]
    assert found_secrets(SECRET[:-1].encode(), secrets) == []


@pytest.mark.parametrize(
    "part",
    [
        *("1", "1 ", "1.", "a", "a@", "a.a@", ":", "aa:", '"', "'", "(", "sip:", "sip:a", "tel:", "caller=", "From: "),
        *("%2B", "password=", "token ", "-----BEGIN A-----", "-----END A-----", "2026-11-25 ", "site-7.", "aaaaaaaa-"),
    ],
)
def test_hostile_text_takes_no_time_clause_x3(part: str) -> None:
    """What a router or a mail server says is looked through by the agent's own loop."""
    it = redactor()
    began_s = time.thread_time()  # its own work, whatever else the machine does
    it.line(part * (16_384 // len(part)))
    assert time.thread_time() - began_s < 1.0
