"""site.toml: what is read, what is refused, and how it is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tomli

from edgeagent.config.document import FILE_MAX_BYTES
from edgeagent.config.site import ConfigError, Site, load, parse
from tests.agent.support import GOOD, table

Tree = dict[str, Any]


def refused(found: Tree) -> dict[str, tuple[str, str]]:
    """The problems by key: found, expected."""
    with pytest.raises(ConfigError) as caught:
        parse(found, "site.toml")
    return {problem.key: (problem.found, problem.expected) for problem in caught.value.problems}


def changed(key: str, value: object) -> Tree:
    """The good file with one key set (None: taken away)."""
    found = table()
    *tables, last = key.split(".")
    inner = found
    for name in tables:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return found


def leaves(found: Tree, where: str = "") -> list[str]:
    return [
        name
        for key, value in found.items()
        for name in (leaves(value, f"{where}{key}.") if isinstance(value, dict) else [f"{where}{key}"])
    ]


def test_a_good_file_is_read_whole_with_the_primary_first(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    good = GOOD.replace("FOLDER", str(tmp_path))
    moved = good.replace("[path.primary]", "[path.zz]", 1).replace("[path.lte]", "[path.primary]", 1)
    path.write_text(moved.replace('targets = ["127.40.0.3"]', 'targets = ["127.30.0.10","127.40.0.1","127.40.0.2"]', 1))
    assert [one.name for one in load(path).paths] == ["primary", "zz"]
    path.write_text(good)
    site = load(path)
    assert (site.id, site.router.port, site.provider.registrar_port, site.mail.security) == (
        "site-7",
        8729,
        5060,
        "tls",
    )
    assert [(one.name, one.tag) for one in site.paths] == [("primary", "wan"), ("lte", "lte")]
    assert site.path("lte").targets == ("127.40.0.3",)
    assert site.settings().failback.hold_s == 5.0
    assert site.settings().paths[1].probing.interval_s == 60.0


def test_defaults_stand_in_for_what_may_be_left_out() -> None:
    found = table()
    del found["failback"], found["router"]["port"], found["mail"]["port"], found["mail"]["security"]
    del found["agent"]["state_folder"], found["mail"]["ca_file"]
    site = parse(found, "site.toml")
    assert (site.router.port, site.mail.port, site.mail.ca_file, site.failback.hold_s) == (8729, 465, "", 30.0)
    assert site.state_folder == "/var/lib/edgeagent"


@pytest.mark.parametrize(
    ("page", "holds"),
    [
        ("127.0.0.9/24", {"agent.address", "router.address"}),
        ("127.9.9.20/27", {"agent.alias_prefix"}),
        ("127.9.9.2/30", {"agent.alias_prefix"}),
        ("127.9.0.1/9", {"agent.address", "router.address", "agent.alias_prefix"}),
    ],
)
def test_the_modems_own_network_is_none_of_the_sites(page: str, holds: set[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed("path.lte.modem_page", page), "site.toml")
    assert {(one.key, one.found) for one in caught.value.problems} == {("path.lte.modem_page", repr(page))}
    told = str(caught.value)
    assert {name for name in ("agent.address", "router.address", "agent.alias_prefix") if name in told} == holds
    assert parse(changed("path.lte.modem_page", "192.168.5.2/24"), "site.toml").path("lte").modem_page


def test_every_mistake_is_told_at_once_with_what_was_found_and_expected() -> None:
    found = table()
    found["format"] = 2
    found["site"]["name"] = 5
    del found["agent"]["address"]
    found["router"]["port"] = 70000
    found["path"]["lte"]["targets"] = ["not-an-address"]
    found["provider"]["prefixes"] = ["203.0.113.1/27"]
    found["mail"]["customer"] = []
    found["mail"]["sekurity"] = "tls"
    found["failback"]["hold_s"] = float("nan")
    found["extra"] = 1
    problems = refused(found)
    assert problems.keys() == {
        "format",
        "site.name",
        "agent.address",
        "router.port",
        "path.lte.targets",
        "provider.prefixes",
        "mail.customer",
        "mail.sekurity",
        "failback.hold_s",
        "extra",
    }
    assert problems["router.port"] == ("70000", "a whole number from 1 to 65535")
    assert problems["agent.address"] == ("nothing", "an IPv4 address such as 192.0.2.1")
    assert problems["extra"][1].startswith("no such key")
    assert all(was and wanted for was, wanted in problems.values())


@pytest.mark.parametrize("key", [key for key in leaves(table()) if key != "format"])
def test_a_value_of_any_wrong_type_is_told_by_its_key(key: str) -> None:
    wrong: list[object] = [
        [],
        {},
        {"a": 1},
        True,
        -1,
        1.5,
        "",
        " ",
        "a\nb",
        [1],
        [[]],
        ["a", "a"],
        float("inf"),
        "\x00",
    ]
    number = key.endswith(("hold_s",))
    for value in wrong:
        if number and value == 1.5:
            continue
        assert key in refused(changed(key, value)), value


@pytest.mark.parametrize("key", ["site", "agent", "router", "path", "provider", "mail", "path.lte", "failback"])
@pytest.mark.parametrize("value", [1, "text", [], [{}], False])
def test_a_table_that_is_none_is_told_by_its_name(key: str, value: object) -> None:
    assert key in refused(changed(key, value))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**400, 4.9, 3601, True, "30"])
def test_a_number_out_of_range_or_none_at_all_is_refused(value: object) -> None:
    assert "failback.hold_s" in refused(changed("failback.hold_s", value))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("site.timezone", "Mars/Olympus", "site.timezone"),
        ("site.timezone", "../../etc/passwd", "site.timezone"),
        ("site.timezone", "America", "site.timezone"),
        ("site.id", "Site 7", "site.id"),
        ("site.id", "bücker", "site.id"),
        ("router.alias_address", "10.0.0.1", "router.alias_address"),
        ("path.lte.source", "10.0.0.1", "path.lte.source"),
        ("path.lte.source", "127.9.9.2", "path.lte.source"),
        ("path.lte.source", "127.9.9.0", "path.lte.source"),
        ("router.alias_address", "127.9.9.7", "router.alias_address"),
        ("agent.alias_prefix", "127.0.0.0/8", "agent.alias_prefix"),
        ("path.lte.interface", "ether1", "path.lte.interface"),
        ("path.lte.interface", " ether5", "path.lte.interface"),
        ("path.lte.gateway", "0.0.0.0", "path.lte.gateway"),
        ("path.lte.gateway", "224.0.0.1", "path.lte.gateway"),
        ("path.lte.gateway", "198.051.100.1", "path.lte.gateway"),
        ("path.lte.gateway", "\u0661.2.3.4", "path.lte.gateway"),
        ("format", True, "format"),
        ("format", 1.0, "format"),
        ("agent.state_folder", "state", "agent.state_folder"),
        ("agent.control_socket", "/" + "\u00fc" * 60, "agent.control_socket"),
        ("router.password_file", "/etc/\u0000", "router.password_file"),
        ("mail.ca_file", "", "mail.ca_file"),
        ("provider.registrar", "203.0.113.99", "provider.registrar"),
        ("path.primary.targets", ["127.40.0.1", "127.40.0.2", "127.40.0.3"], "path.primary.targets"),
        ("path.primary.targets", ["127.30.0.10", "127.40.0.2"], "path.primary.targets"),
        ("provider.prefixes", ["0.0.0.0/0"], "provider.prefixes"),
        ("mail.sender", "a@b@c.example", "mail.sender"),
        ("mail.sender", "müller@c.example", "mail.sender"),
        ("mail.customer", ["a@b.example\r\nBcc: x@y.example"], "mail.customer"),
        ("mail.server_name", "mail example", "mail.server_name"),
        ("mail.security", "none", "mail.security"),
        ("path.Lte", {}, "path.Lte"),
        ("path.wan", {}, "path.wan"),
    ],
)
def test_what_no_single_type_can_know_is_checked(key: str, value: object, told: str) -> None:
    assert told in refused(changed(key, value))


def test_a_site_without_a_primary_or_without_a_backup_is_refused() -> None:
    for name in ("primary", "lte"):
        assert "path" in refused(changed(f"path.{name}", None))


@pytest.mark.parametrize("key", ["", "\n", "a" * 500, "\u202e"])
def test_an_unknown_key_is_told_on_one_line_whatever_it_is(key: str) -> None:
    found = table()
    found["mail"][key] = "x"
    found[key] = "x"
    problems = refused(found)
    assert len(problems) == 2
    assert all(name and name.isprintable() and len(name) < 120 for name in problems)


def test_a_secret_written_into_the_file_is_not_repeated_in_the_message_clause_x4() -> None:
    found = table()
    found["router"]["password"] = "hunter2"
    found["mail"]["password_file"] = ["hunter2"]
    found["router"]["password_file"] = "hunter2\n"
    with pytest.raises(ConfigError) as caught:
        parse(found, "site.toml")
    assert "hunter2" not in str(caught.value)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"format = ",
        b"\xff\xfe",
        b"format = 1\nname = '\xe9'",
        b"x = " + b"[" * 20000 + b"]" * 20000,
        b"x = " + b"{a=" * 2000 + b"1" + b"}" * 2000,
        b"site.id" + b".a" * 20000 + b" = 1",
        b"#" * (FILE_MAX_BYTES + 1),
        b"\x00" * 100,
        b"a = 1\na = 2",
        b"a = " + b"9" * 5000,
    ],
)
def test_a_file_that_is_no_toml_is_refused_in_one_short_line_clause_x3(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(caught.value.problems) == 1
    assert len(str(caught.value)) < 500


def test_numbers_too_large_to_print_are_refused_clause_x3(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    good = GOOD.replace("FOLDER", str(tmp_path))
    path.write_text(good.replace("port = 8729", "port = 0x" + "f" * 50000) + "\n[x]\na = 0x" + "f" * 9000)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert {problem.key for problem in caught.value.problems} == {"router.port", "x"}


def test_a_missing_file_a_folder_and_an_endless_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path, Path(os.devnull).parent / "zero"):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert len(caught.value.problems) == 1


def test_the_good_file_is_what_the_tests_think_it_is() -> None:
    assert tomli.loads(GOOD)["format"] == 1
    assert isinstance(parse(table(), "site.toml"), Site)
