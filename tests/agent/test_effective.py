"""The settings in force: all of them, each with its origin, and no secret."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli

from edgeagent.config import effective
from edgeagent.config.document import line_numbers
from edgeagent.config.effective import Setting, of
from tests.agent.support import GOOD, MAIL_PASSWORD, PASSWORD
from tests.agent.test_status import write_site


def settings(text: str = GOOD) -> dict[str, Setting]:
    return {one.key: one for one in of(text.replace("FOLDER", "/x").encode(), "site.toml")}


def said(site: Path, *options: str, **environment: str) -> str:
    command = [sys.executable, "-m", "edgeagent", "--site", str(site), "config", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment or None)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_each_setting_says_where_it_came_from() -> None:
    found = settings()
    lines = GOOD.splitlines()
    assert found["failback.hold_s"] == Setting("failback.hold_s", 5.0, "s", "site.toml", lines.index("hold_s = 5") + 1)
    assert found["provider.registrar_port"] == Setting("provider.registrar_port", 5060, "", "default", None)
    assert found["probing.primary.interval_s"] == Setting("probing.primary.interval_s", 1.0, "s", "default", None)
    assert found["probing.lte.recover_rounds"].origin == "default"
    assert found["flows.busy_bytes_per_s"].unit == "bytes/s"
    for one in found.values():
        if one.line is not None:
            assert lines[one.line - 1].startswith(one.key.rpartition(".")[2])
    assert {one.origin for one in found.values()} == set(effective.LAYERS)


def test_a_value_that_is_written_comes_from_the_file_even_where_it_is_the_default() -> None:
    assert settings()["mail.port"].origin == "site.toml"
    without = settings(GOOD.replace("port = 465\n", ""))["mail.port"]
    assert (without.value, without.origin, without.line) == (465, "default", None)


def test_every_key_of_the_file_is_among_the_settings() -> None:
    def leaves(table: dict[str, Any], where: str = "") -> list[str]:
        return [
            name
            for key, value in table.items()
            for name in (leaves(value, f"{where}{key}.") if isinstance(value, dict) else [f"{where}{key}"])
        ]

    assert set(leaves(tomli.loads(GOOD))) <= settings().keys()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\n[b]\nc = 2\n\n[d.e]\n\"f\" = 3 # x\n'g' = 4", {"a": 1, "b.c": 3, "d.e.f": 6, "d.e.g": 7}),
        ("[a]\nb = [\n1, # [x]\n2,\n]\nc = '''\n[d]\ne = 1'''\nf = 1\r\n", {"a.b": 2, "a.c": 6, "a.f": 9}),
        ("a.b = 1\na.c = {d = 1, e = 2}\n#f = 1\n[g]\n[h]\ni = 1", {"a.b": 1, "a.c.d": 2, "a.c.e": 2, "h.i": 6}),
        ("a = '''" + "\n" * 300 + "'''\nb = 1", {}),
    ],
)
def test_the_line_of_a_key_is_where_its_statement_begins(text: str, lines: dict[str, int]) -> None:
    assert line_numbers(text) == lines


def test_the_command_prints_toml_with_units_and_origins(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    plain, origin, document = said(site), said(site, "--origin"), json.loads(said(site, "--json"))
    assert tomli.loads(plain)["failback"]["hold_s"] == 5.0
    assert "failback.hold_s = 5.0  # s\n" in plain
    assert re.search(r"^failback\.hold_s = 5\.0  # s, site\.toml line \d+$", origin, re.MULTILINE)
    assert re.search(r"^flows\.phones_max = 500  # default$", origin, re.MULTILINE)
    assert document["format"] == 1
    assert [one["key"] for one in document["settings"]] == re.findall(r"^(\S+) =", plain, re.MULTILINE)


def test_no_secret_is_shown_only_the_names_of_their_files_clause_x4(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    for options in ((), ("--origin",), ("--json",)):
        text = said(site, *options)
        assert str(tmp_path / "router.password") in text
        assert PASSWORD not in text
        assert MAIL_PASSWORD not in text


def test_a_name_that_the_terminal_cannot_show_is_no_traceback(tmp_path: Path) -> None:
    site = write_site(tmp_path, GOOD.replace("Bakery", "B\u00e4ckerei \u2615"))
    assert "B\\xe4ckerei" in said(site, PYTHONIOENCODING="ascii", PATH="")
