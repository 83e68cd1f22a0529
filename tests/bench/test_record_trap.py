"""The agent's own disk and the trap at its record, on a real ext4 and with a real strace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.virtual.bench import REPOSITORY, can_run
from hil.virtual.record_trap import RecordTrap, _is_stopped, commits, places
from hil.virtual.state_disk import StateDisk

pytestmark = pytest.mark.bench

# A little agent: records one place after another in a store of its own, each when a line comes.
RECORDER = """
import json, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("PRAGMA journal_mode=WAL"); store.execute("PRAGMA synchronous=FULL")
store.execute("CREATE TABLE journal (seq INTEGER PRIMARY KEY, mono_s REAL, kind TEXT, data BLOB)")
print("ready", flush=True)
for number, line in enumerate(sys.stdin, 1):
    store.execute("BEGIN")
    for kind in ("facts", "place"):
        what = (number, kind, json.dumps({"phase": line.strip()}))
        store.execute("INSERT INTO journal (mono_s, kind, data) VALUES (?, ?, ?)", what)
    store.execute("COMMIT")
    print("recorded", flush=True)
"""
# A bench that freezes the disk of its agent and is then killed.
CRASHING = """
import asyncio, subprocess, sys
from pathlib import Path
from hil.virtual.state_disk import StateDisk
async def main():
    disk = StateDisk(Path(sys.argv[1]))
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "-m", *disk.command(["sleep", "600"])]
    agent = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (disk.inside(agent.pid) / "lost+found").exists():
        await asyncio.sleep(0.01)
    await disk.freeze(agent.pid)
    asyncio.create_task(disk.write(agent.pid))
    await asyncio.sleep(0.2)
    print(disk.device, agent.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _bench() -> None:
    reason = can_run()
    if reason:
        pytest.skip(reason)


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.02)
    return condition()


def runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    return False


@contextlib.contextmanager
def sleeper(disk: StateDisk) -> Iterator[int]:
    """A process that has the disk mounted."""
    process = subprocess.Popen(["unshare", "-m", *disk.command(["sleep", "600"])])
    try:
        assert until((disk.inside(process.pid) / "lost+found").exists)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_frozen_disk_holds_up_a_write_until_it_is_thawed_and_nobody_else_sees_it(tmp_path: Path) -> None:
    async def play() -> None:
        disk = StateDisk(tmp_path / "state")
        with sleeper(disk) as pid:
            await disk.write(pid)
            assert not list((tmp_path / "state").iterdir()), "the bench's own folder stays empty"
            await disk.freeze(pid)
            writing = asyncio.create_task(disk.write(pid))
            done, _ = await asyncio.wait({writing}, timeout=1.0)
            assert not done
            await disk.thaw()
            await asyncio.wait_for(writing, 20.0)
        disk.close()

    asyncio.run(play())


def test_what_was_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    async def play() -> None:
        disk = StateDisk(tmp_path / "state")
        with sleeper(disk) as pid:
            await disk.write(pid)
        with sleeper(disk) as pid:
            assert (disk.inside(pid) / "written-by-the-bench").read_text() == "x\n"
        disk.close()

    asyncio.run(play())


def test_a_bench_that_is_killed_leaves_no_frozen_disk_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", CRASHING, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as bench:
        assert bench.stdout is not None
        device, agent = bench.stdout.readline().split()
        bench.kill()
    assert until(lambda: not runs(int(agent)))
    backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
    assert until(lambda: not backing.exists() or f"-{bench.pid} " not in backing.read_text())


def test_the_trap_stops_a_process_when_its_record_is_on_the_disk_and_before_it_runs_on(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    command = [sys.executable, "-c", RECORDER, str(store)]
    recorder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert recorder.stdin is not None
    assert recorder.stdout is not None
    assert recorder.stdout.readline() == "ready\n"

    def wanted() -> bool:
        return bool(places(tmp_path)[-1]["phase"] == "away")

    async def play() -> str:
        trap = RecordTrap(recorder.pid, tmp_path / "strace.log", wanted)
        await trap.set()
        assert recorder.stdin is not None
        recorder.stdin.write("home\naway\nhome\n")
        call = await trap.sprung(20.0)
        recorder.send_signal(signal.SIGKILL)
        await trap.release()
        return call

    call = asyncio.run(play())
    said, _ = recorder.communicate()
    assert "store.db-wal" in call
    assert call.endswith("= 0")
    assert said == "recorded\n", "the record that was not wanted was let go on, the wanted one never returned"
    assert [place["phase"] for place in places(tmp_path)] == ["home", "away"]
    assert commits(tmp_path) == [{"at_s": number, "kinds": ["facts", "place"]} for number in (1.0, 2.0)]


def test_a_process_with_a_thread_that_runs_is_not_stopped_and_one_that_has_ended_neither() -> None:
    busy = "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(0.0005,)).start()"
    program = subprocess.Popen([sys.executable, "-c", busy])
    try:
        time.sleep(0.5)
        assert not any(_is_stopped(program.pid) for _ in range(2000)), "threads that end meanwhile are no error"
        program.send_signal(signal.SIGSTOP)
        assert until(lambda: _is_stopped(program.pid))
    finally:
        program.kill()
        program.wait()
    assert not _is_stopped(program.pid)
