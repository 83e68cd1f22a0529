"""Power cuts of a real file system, in the short form; `make powercut N=1000` is the long one (clause C1)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.powercut.__main__ import code
from tests.powercut.cuts import CONTROLS, Tally
from tests.powercut.disk import MEMORY, PREFIX

COMMAND = (sys.executable, "-m", "tests.powercut")


@pytest.mark.slow
def test_no_acknowledged_record_is_lost_and_none_unreadable_clause_c1(tmp_path: Path) -> None:
    command = [*COMMAND, "--cuts", "200", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["cuts"], figures["lost"], figures["unreadable"], figures["broken"]) == (200, 0, 0, 0)
    assert figures["midway"] > 0
    assert all(figures["bites"][how] for how in CONTROLS)


def test_each_figure_has_its_exit_code() -> None:
    good = Tally(cuts=10, acknowledged=100, migrations=10, midway=3, bites=dict.fromkeys(CONTROLS, 1))
    assert code(good) == 0
    assert [code(replace(good, lost=1)), code(replace(good, unreadable=1)), code(replace(good, broken=1))] == [1, 1, 1]
    assert [code(replace(good, bites={**good.bites, how: 0})) for how in CONTROLS] == [3] * len(CONTROLS)
    assert [code(replace(good, acknowledged=3)), code(replace(good, midway=0))] == [3, 3]


def _left() -> list[str]:
    places = (MEMORY, Path(tempfile.gettempdir()))
    backing = [file.read_text() for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [str(found) for place in places for found in place.glob(f"{PREFIX}*")] + backing


def _left_by(process: int) -> list[str]:
    return [name for name in _left() if f"{PREFIX}{process}-" in name]


def _forks(children: Path) -> list[str]:
    """Processes that write to the disk or read it; a program started (losetup) is none."""
    try:
        found = children.read_text().split()
        return [child for child in found if "tests.powercut" in Path(f"/proc/{child}/cmdline").read_text()]
    except OSError:
        return []


def test_a_run_that_is_killed_leaves_nothing_to_the_next() -> None:
    with subprocess.Popen([*COMMAND, "--cuts", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        deadline_s = time.monotonic() + 30
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        while run.poll() is None and not (_left_by(run.pid) and _forks(children)):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        if run.poll() == 2:
            assert run.stderr is not None
            pytest.skip(run.stderr.read().decode().strip())
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert subprocess.run([*COMMAND, "--cuts", "2"], capture_output=True, check=False, timeout=120).returncode == 0
    deadline_s = time.monotonic() + 10
    while _left_by(run.pid):  # the kernel detaches a loop device a moment after its last holder is gone
        assert time.monotonic() < deadline_s, _left_by(run.pid)
        time.sleep(0.05)
