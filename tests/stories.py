"""Starts the bench's scenarios as processes, all at once, and hands out their results."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hil.virtual.topology import clean_stale

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 800.0
SLOTS_NICE = -10
END_S = 10.0  # a story that is told to end clears its bench away first
PROGRAM = (sys.executable, "-m", "hil")

STORIES = (
    ("failover-blackhole", "7.22"),
    ("failover-blackhole", "6.49"),
    ("failover-unplug", "7.22"),
    ("failover-oneway", "7.22"),
    ("failover-unplug", "6.49"),
    ("stale-flow-control", "6.49"),
    ("lossy-primary", "7.22"),
    ("icmp-filtered", "6.49"),
    ("options-ignored", "7.22"),
    ("provider-silent", "6.49"),
)
BITES = (("failover-blackhole", "6.49"), ("failover-unplug", "7.22"))


class Stories:
    """The running stories, by their command line."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edgeagent-stories-"))
        self.running: dict[tuple[str, ...], tuple[subprocess.Popen[str], Path]] = {}

    def start(self) -> None:
        """All of them."""
        for scenario, router in STORIES:
            self._start("run", scenario, "--router", router)
        for scenario, router in BITES:
            self._start("bite", scenario, "--router", router)

    def _start(self, *words: str) -> None:
        report = self.folder / f"{'-'.join(words)}.json".replace("--", "")
        # Before everything else on a busy machine: they measure times, the other tests do not. Should this process be
        # killed, they are told to end.
        command = ["setpriv", "--pdeathsig", "TERM", "nice", "-n", str(SLOTS_NICE), *PROGRAM, *words]
        process = subprocess.Popen(
            [*command, "--json", str(report)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ},
        )
        self.running[words] = process, report

    def result(self, *words: str) -> tuple[int, str, Path]:
        """Exit code, output and report of one story, waiting for it."""
        process, report = self.running[words]
        output, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, output, report

    def stop(self, *, passed: bool) -> Path | None:
        """End what still runs and clear away what it leaves. The folder of the logs, unless all has passed."""
        running = [process for process, _ in self.running.values() if process.returncode is None]
        for process in running:
            process.terminate()
        end_s = time.monotonic() + END_S
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=max(end_s - time.monotonic(), 0.0))
        for process in running:
            if process.returncode is None:
                process.kill()
                process.communicate()
        if running:
            clean_stale()
        if not passed:
            return self.folder
        shutil.rmtree(self.folder, ignore_errors=True)
        return None
