"""The watchdog of the real process, by a real notify socket: fed while all works, unfed once one part does not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.virtual.routeros.certificate import make_certificate
from tests.agent.support import GOOD

WATCHDOG_S = 1.5  # what systemd would allow; the unit's own 30 s would only make the test longer
SILENCE_S = 2 * WATCHDOG_S

# The agent with shorter limits (not with other logic), and one part that breaks once the file ``broken`` is there.
AGENT = """
import asyncio, sys, time
from pathlib import Path
from edgeagent.config.site import load
from edgeagent.daemon import actuator, loop, pollers, watchdog, wiring

kind, folder = sys.argv[1], Path(sys.argv[2])
broken = (folder / "broken").exists
watchdog.GRACE_S = wiring.CORE_S = wiring.PROBES_S = wiring.ACTUATOR_S = 3.0
watchdog.LAG_S = 60.0 if kind != "late" else 0.3
loop.IDLE_S = 0.3

def turn(*arguments, _turn=loop.turn):
    if kind == "blocked" and broken():
        time.sleep(3600)
    if kind == "late" and broken():
        time.sleep(0.8)
    return _turn(*arguments)

async def record(self, *arguments, _record=loop.Loop._record):
    if kind == "hung" and broken():
        await asyncio.Event().wait()
    return await _record(self, *arguments)

async def open_session(self, _open=wiring.Daemon.open_session):
    if kind == "stuck" and broken():
        await asyncio.Event().wait()
    return await _open(self)

def round_(self, _round=pollers.PathPoller._round):
    if kind != "probeless" or self.path.name != "primary" or not broken():
        _round(self)

loop.turn, loop.Loop._record, pollers.PathPoller._round = turn, record, round_
wiring.Daemon.open_session = open_session
site = load(folder / "site.toml")
sys.exit(wiring.main(site))
"""


class Manager:
    """What systemd is to the agent: the socket it speaks to, and what it said there."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.broken = folder / "broken"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        make_certificate(folder, "127.0.0.1")
        (folder / "router.password").write_text("x\n")
        with socket.socket() as free:  # a port that nobody listens on: an unreachable router is no reason to starve
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = GOOD.replace("FOLDER", str(folder)).replace("port = 8729", f"port = {port}")
        (folder / "site.toml").write_text(text)
        own = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        with (folder / "log").open("w") as log:
            command = [sys.executable, "-c", AGENT, kind, str(folder)]
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, **own})

    def wait(self, wanted: Callable[[str], bool], limit_s: float) -> str | None:
        """The next datagram that is wanted, None if there is none in time."""
        end_s = time.monotonic() + limit_s
        while (left_s := end_s - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                said = self.socket.recv(4096).decode()
            except TimeoutError:
                return None
            if wanted(said):
                return said
        return None

    def fed(self, limit_s: float) -> bool:
        return self.wait("WATCHDOG=1".__eq__, limit_s) is not None


@contextmanager
def manager(folder: Path, kind: str) -> Iterator[Manager]:
    found = Manager(folder, kind)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        found.socket.close()


@pytest.fixture(params=["blocked", "hung", "stuck", "probeless", "late"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_a_part_that_hangs_starves_the_watchdog_and_a_healthy_agent_does_not(kind: str, tmp_path: Path) -> None:
    with manager(tmp_path, kind) as it:
        ready = it.wait(lambda said: said.startswith("READY=1"), 20.0)
        assert ready is not None
        assert "STATUS=voice on primary" in ready
        assert all(it.fed(20.0) for _ in range(4)), "the control: healthy, and its router unreachable, it is fed"
        it.broken.touch()
        end_s = time.monotonic() + 20.0
        while it.fed(SILENCE_S):
            assert time.monotonic() < end_s, f"fed although it is broken: {kind}"
        assert it.process.poll() is None, "it lives: only its watchdog goes unfed"


def test_it_says_that_it_stops(tmp_path: Path) -> None:
    with manager(tmp_path, "well") as it:
        assert it.fed(20.0)
        it.process.send_signal(signal.SIGTERM)
        assert it.wait(lambda said: said.startswith("STOPPING=1\nSTATUS=stopping"), 20.0)
        assert it.process.wait(20.0) == 0


def test_the_watchdogs_signal_leaves_a_stack_in_the_log(tmp_path: Path) -> None:
    with manager(tmp_path, "blocked") as it:
        assert it.fed(20.0)
        it.broken.touch()
        while it.fed(SILENCE_S):
            pass
        it.process.send_signal(signal.SIGABRT)
        assert it.process.wait(20.0) == -signal.SIGABRT
        assert "in turn" in (tmp_path / "log").read_text()
