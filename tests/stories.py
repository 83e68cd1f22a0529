"""Starts the bench's scenarios as processes, all at once, and hands out their results."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 800.0
SLOTS_NICE = -10

STORIES = (
    ("failover-blackhole", "7.22"),
    ("failover-blackhole", "6.49"),
    ("failover-unplug", "7.22"),
    ("failover-unplug", "6.49"),
    ("stale-flow-control", "6.49"),
    ("lossy-primary", "7.22"),
    ("icmp-filtered", "6.49"),
    ("options-ignored", "7.22"),
)
BITES = (("failover-blackhole", "6.49"), ("failover-unplug", "7.22"))


class Stories:
    """The running stories, by their command line."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edgeagent-stories-"))
        self.running: dict[tuple[str, ...], tuple[subprocess.Popen[str], Path]] = {}
        for scenario, router in STORIES:
            self._start("run", scenario, "--router", router)
        for scenario, router in BITES:
            self._start("bite", scenario, "--router", router)

    def _start(self, *words: str) -> None:
        report = self.folder / f"{'-'.join(words)}.json".replace("--", "")
        # Before everything else on a busy machine: they measure times, the other tests do not.
        command = ["nice", "-n", str(SLOTS_NICE), sys.executable, "-m", "hil", *words, "--json", str(report)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}
        )
        self.running[words] = process, report

    def result(self, *words: str) -> tuple[int, str, Path]:
        """Exit code, output and report of one story, waiting for it."""
        process, report = self.running[words]
        output, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, output, report

    def stop(self) -> None:
        """End what still runs; the next run of a bench cleans up after it."""
        for process, _ in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
