"""The disk of the agent's own, on a real kernel, and the reader of what a process uses."""

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

from hil.virtual.bench import WASTERS, can_run
from hil.virtual.state_disk import DiskError, StateDisk
from hil.virtual.usage import usage

WRITER = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "there").write_text("x")
file = os.open(folder / "file", os.O_WRONLY | os.O_CREAT)
while True:
    os.pwrite(file, os.urandom(4096), 0)
    os.fsync(file)
    time.sleep(0.05)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StateDisk]:
    reason = can_run()
    if reason:
        pytest.skip(reason)
    try:
        made = StateDisk(tmp_path / "state")
    except DiskError as error:
        pytest.skip(f"cannot mount here: {error}")
    yield made
    with contextlib.suppress(OSError):
        made.close()


@pytest.fixture
def writer(disk: StateDisk) -> Iterator[subprocess.Popen[bytes]]:
    """A process that sees the disk and writes to it all the time."""
    command = disk.command([sys.executable, "-c", WRITER, str(disk.folder)])
    process = subprocess.Popen(["unshare", "--mount", *command])
    until(lambda: (disk.inside(process.pid) / "there").exists())
    yield process
    process.kill()
    process.wait(10)


def until(ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_only_its_own_process_sees_it_and_what_it_writes_is_counted(
    disk: StateDisk, writer: subprocess.Popen[bytes]
) -> None:
    assert not list(disk.folder.iterdir())
    before = disk.written_bytes()
    until(lambda: disk.written_bytes() >= before + 40_000)  # ten times 4 KiB, and the journal's


def test_nothing_is_written_while_it_hangs_and_it_goes_on_afterwards(
    disk: StateDisk, writer: subprocess.Popen[bytes]
) -> None:
    async def go() -> None:
        await disk.freeze(writer.pid)
        before = disk.written_bytes()
        await asyncio.sleep(0.5)
        assert disk.written_bytes() == before
        await disk.thaw()
        await asyncio.to_thread(until, lambda: disk.written_bytes() > before)

    asyncio.run(go())


def test_it_keeps_its_content_and_goes_with_its_last_user(disk: StateDisk, writer: subprocess.Popen[bytes]) -> None:
    writer.kill()
    writer.wait(10)
    look = disk.command(["cat", str(disk.folder / "there")])
    assert subprocess.run(["unshare", "--mount", *look], capture_output=True, text=True, check=True).stdout == "x"
    loop = Path("/sys/block") / Path(disk.device).name / "loop" / "backing_file"
    assert f"edgeagent-bench-disk-{os.getpid()}" in loop.read_text()
    disk.close()
    until(lambda: not loop.exists() or str(os.getpid()) not in loop.read_text())


@pytest.mark.parametrize(
    ("what", "sees"),
    [
        ("cpu", lambda used: used["cpu_s"] > 0.5),
        ("memory", lambda used: used["rss_peak_bytes"] > 64 << 20 and used["rss_bytes"] > 64 << 20),
    ],
)
def test_waste_is_seen_also_in_a_child(what: str, sees: Callable[[dict[str, float]], bool]) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WASTERS[what]!r}])"
    process = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
    try:
        until(lambda: sees(usage(process.pid)))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
