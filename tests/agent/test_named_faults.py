"""Whatever keeps the agent from its work is a named fault in status and log, and it keeps probing all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeagent.texts import fault
from tests.agent.named_faults import SPOILERS
from tests.agent.support import GUARD_S

NETWORK = "ip link set lo up && echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range && exec \"$@\""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a network of its own in which pings are allowed")


def told(code: str, folder: Path) -> dict[str, Any]:
    command = ["unshare", "--net", "/bin/sh", "-c", NETWORK, "sh", sys.executable, "-m", "tests.agent.named_faults"]
    done = subprocess.run([*command, code, str(folder)], capture_output=True, text=True, timeout=GUARD_S, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("code", [code for code in SPOILERS if code != "none"])
def test_what_is_wrong_has_a_name_and_probing_goes_on(code: str, tmp_path: Path) -> None:
    found = told(code, tmp_path)
    assert set(found["first"]["faults"]) == {code}
    what, _, todo, _ = fault(code)
    assert found["log"].count(f"FAULT {code}: {what}") == 1
    assert todo in found["log"]
    assert "Traceback" not in found["log"]
    if code != "alias_missing":  # whose very meaning is that nothing can be sent
        assert found["later"]["paths"]["primary"]["verdict"] == "up"
        assert found["later"]["paths"]["primary"]["answered_ago_s"] < 1.9
    if code == "router_version_unlisted":
        assert found["leases"] == []  # watched, and nothing changed


def test_with_nothing_wrong_no_fault_is_named(tmp_path: Path) -> None:
    """The control: the same surroundings, unspoilt."""
    found = told("none", tmp_path)
    assert found["first"]["faults"] == found["later"]["faults"] == {}
    assert "FAULT" not in found["log"]
    assert ["edge-alive", "0.0.0.0/0"] in found["leases"]
    # After a start the router's own fallback may still be on its way back.
    assert {name for name, _ in found["leases"]} <= {"edge-alive", "edge-wan-site"}
