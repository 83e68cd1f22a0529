"""A bench killed in the middle of a story: the next one finds the machine as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.virtual import topology_netns as netns
from hil.virtual.bench import REPOSITORY, can_run
from hil.virtual.topology import beds_folder, clean_stale

pytestmark = pytest.mark.bench
GUARD_S = 120.0  # no claim: it ends what would hang


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's beds are, apart from those of other benches on this machine. Short: sockets are in it."""
    folder = Path(tempfile.mkdtemp(prefix="eb-kill-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_after_kill_9_of_a_run_clean_stale_leaves_nothing_of_it(place: Path) -> None:
    reason = can_run()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, "-m", "hil", "run", "lossy-primary", "--json", str(place / "report.json")]
    with (place / "run.log").open("w") as log, subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log) as run:
        try:
            end_s = time.monotonic() + GUARD_S
            while not any(place.glob("report.events/*/phone-p6")):  # the last program of a bench to start
                assert run.poll() is None, (place / "run.log").read_text()
                assert time.monotonic() < end_s, "the story never began"
                time.sleep(0.05)
            (bed,) = beds_folder().iterdir()
            owner = json.loads((bed / "owner.json").read_text())["pid"]
            names = netns.existing(f"eb-{bed.name}-")
            members = [pid for name in names for pid in pids_in(name)]
        finally:
            run.kill()
    try:
        assert owner == run.pid
        assert run.returncode == -signal.SIGKILL
        assert len(names) > 10
        assert len(members) > 5  # router, emulator, Kamailio, rtpengine, exim, phones
    finally:
        removed = clean_stale()
    assert removed == [bed.name]
    assert netns.existing(f"eb-{bed.name}-") == []
    assert not bed.exists()
    end_s = time.monotonic() + GUARD_S
    while any(alive(pid) for pid in members) and time.monotonic() < end_s:
        time.sleep(0.02)  # killed, and out of its namespace already, but the kernel still clears it away
    assert not [command_line(pid) for pid in members if alive(pid)]
    assert not [pid for pid in every_pid() if str(place).encode() in command_line(pid)]


def pids_in(name: str) -> list[int]:
    """The processes in a namespace."""
    output = subprocess.run(["ip", "netns", "pids", name], check=True, capture_output=True, text=True).stdout
    return [int(pid) for pid in output.split()]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def every_pid() -> list[int]:
    """All processes but this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]  # noqa: PTH208


def command_line(pid: int) -> bytes:
    """Its words; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
