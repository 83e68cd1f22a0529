"""The agent's process with a registrar by name and a real name server: starts, outages of the resolver, a move."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent.support import REGISTRAR
from tests.agent.test_named_faults import NETWORK
from tests.names import MISSING

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a network of its own in which pings are allowed"),
    pytest.mark.skipif(MISSING, reason="dnsmasq is not installed"),
]


def told(story: str, folder: Path) -> dict[str, Any]:
    command = ["unshare", "--net", "/bin/sh", "-c", NETWORK, "sh", sys.executable, "-m", "tests.agent.named_registrar"]
    done = subprocess.run([*command, story, str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert "Traceback" not in found["log"]
    if "faults" in found:  # nobody has provisioned the routers of these sites; when that is said is another matter
        found["faults"] = {code: since for code, since in found["faults"].items() if code != "router_unprovisioned"}
    return found


def test_the_first_start_asks_by_srv_and_keeps_the_address(tmp_path: Path) -> None:
    found = told("first_start", tmp_path)
    assert (found["faults"], found["code"], found["kept"]) == ({}, 0, REGISTRAR)


def test_with_a_dead_resolver_the_last_good_address_is_used(tmp_path: Path) -> None:
    found = told("dead_resolver", tmp_path)
    assert (found["faults"], found["code"]) == ({}, None)


def test_without_any_address_the_start_waits_and_says_so(tmp_path: Path) -> None:
    found = told("nothing_known", tmp_path)
    assert (found["faults"], found["code"]) == ({}, None)
    assert found["waiting"]
    for note in found["waiting"]:
        assert note == "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=waiting for the address of sbc.provider.example"
    assert found["log"].count("no address of the registrar yet") == 1


def test_a_start_that_waits_can_be_stopped(tmp_path: Path) -> None:
    assert told("stopped_while_waiting", tmp_path)["code"] == 0


def test_without_a_disk_the_agent_starts_all_the_same_clause_c2_l6(tmp_path: Path) -> None:
    found = told("no_disk", tmp_path)
    assert (found["path"], found["code"]) == ("primary", None)


def test_another_address_makes_the_agent_start_anew_once(tmp_path: Path) -> None:
    found = told("moved", tmp_path)
    assert (found["codes"], found["kept"]) == ([4, None], REGISTRAR)
    assert f"sbc.provider.example is now {REGISTRAR}; starting anew" in found["log"]


def test_the_same_address_does_not(tmp_path: Path) -> None:
    """The control."""
    found = told("stayed", tmp_path)
    assert (found["codes"], found["kept"]) == ([None], REGISTRAR)


def test_an_address_outside_the_prefixes_is_a_named_fault_and_is_not_used(tmp_path: Path) -> None:
    found = told("outside", tmp_path)
    assert set(found["faults"]) == {"registrar_outside_prefixes"}
    assert (found["code"], found["kept"], found["path"]) == (None, REGISTRAR, "primary")
