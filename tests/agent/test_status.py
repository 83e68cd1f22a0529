"""Commands as processes: what they print and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeagent.cli import screen
from edgeagent.cli.status import lines
from edgeagent.core.facts import Instant
from edgeagent.core.settings import PRIMARY_PROBING, PathSettings
from edgeagent.core.settings import Settings as Site
from edgeagent.core.status import document
from edgeagent.core.turn import first_state
from edgeagent.daemon.control import StatusSocket
from tests.agent.support import GOOD, MAIL_PASSWORD, PASSWORD, in_thread, run

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "site": "site-7",
    "path": "lte",
    "phase": "away",
    "phones": 6,
    "calls": 1,
    "since_s": 12.0,
    "paths": {"lte": {"verdict": "up", "answered_ago_s": 1.5, "address": None}},
    "faults": {},
}


def write_site(folder: Path, text: str = GOOD) -> Path:
    path = folder / "site.toml"
    path.write_text(text.replace("FOLDER", str(folder)))
    (folder / "router.password").write_text(PASSWORD)
    (folder / "mail.password").write_text(MAIL_PASSWORD)
    return path


async def asked(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return await in_thread([sys.executable, "-m", "edgeagent", "--site", str(site), *command])


@pytest.mark.parametrize(("faults", "code"), [({}, 0), ({"no_path": 3.0, "backup_down": 1.0}, 1)])
def test_status_says_where_voice_goes_and_what_is_wrong(tmp_path: Path, faults: dict[str, float], code: int) -> None:
    async def test() -> None:
        site = write_site(tmp_path)
        socket = StatusSocket(tmp_path / "control.sock", lambda: {**DOCUMENT, "faults": faults})
        await socket.open()
        done = await asked(site, "status")
        assert (done.returncode, done.stderr) == (code, "")
        assert "voice on lte (away) for 12 s;" in done.stdout
        assert done.stdout.count("FAULT") == len(faults)
        assert "last answer 1.5 s ago" in done.stdout
        assert json.loads((await asked(site, "status", "--json")).stdout)["site"] == "site-7"
        await socket.close()

    run(test)


def test_what_the_agent_does_not_know_yet_is_not_made_up() -> None:
    """Just started, the router not asked yet: not for how long voice has been where it is, and no line has answered."""
    site = Site("site-7", "a", (PathSettings("primary", "wan", PRIMARY_PROBING),))
    found = json.loads(json.dumps(document(first_state(site), Instant(3240.0, "boot-1"), site)))
    said = "\n".join(lines(found))
    assert "voice on primary (home); 0 phones" in said
    assert "primary: unsure, address none, no answer yet" in said
    assert not re.search(r"None|3240|inf", said)
    assert not re.search(r"None|3240|inf", str(screen._head(found)))


def test_status_without_an_agent_or_with_a_foreign_one_is_code_2(tmp_path: Path) -> None:
    async def test() -> None:
        site = write_site(tmp_path)
        assert (await asked(site, "status")).returncode == 2
        socket = StatusSocket(tmp_path / "control.sock", lambda: {"format": 2})
        await socket.open()
        done = await asked(site, "status")
        assert done.returncode == 2
        assert "another format" in done.stderr
        await socket.close()

    run(test)


def test_check_config_is_code_0_or_2_and_tells_every_problem(tmp_path: Path) -> None:
    async def test() -> None:
        good = await asked(write_site(tmp_path), "check-config")
        assert (good.returncode, good.stderr) == (0, "")
        bad = await asked(write_site(tmp_path, GOOD.replace("8729", "0").replace("[mail]", "[mial]")), "check-config")
        assert bad.returncode == 2
        assert "router.port" in bad.stderr
        assert "mial" in bad.stderr
        assert "Traceback" not in bad.stderr

    run(test)
