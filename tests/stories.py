"""Starts the bench's scenarios as processes, all at once, and hands out their results."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from hil.virtual.topology import clean_stale

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 1500.0
AT_ONCE = 10
TICK_S = 0.2
UP_S = 30.0  # after which the next one is started even if the site of the one before is not up yet
SLOTS_NICE = -10
END_S = 10.0  # a story that is told to end clears its bench away first
PROGRAM = (sys.executable, "-m", "hil")

STORIES = (
    # Each kind once, in one version. The longest first: ten minutes and more, the next two about eight.
    ("footprint", "7.22"),
    ("cold-start", "7.22"),
    ("agent-dead-fallback", "6.49"),
    ("names-on-lte", "7.22"),
    ("failover-blackhole", "7.22"),
    ("drift", "6.49"),
    ("leak-suite", "7.22"),
    ("mail-trouble", "6.49"),
    ("api-load", "6.49"),
    ("agent-killed", "6.49"),
    ("failover-oneway", "7.22"),
    ("failover-unplug", "6.49"),
    ("stale-flow-control", "6.49"),
    ("lossy-primary", "7.22"),
    ("icmp-filtered", "6.49"),
    ("options-ignored", "7.22"),
    ("provider-silent", "6.49"),
    ("api-hangs", "7.22"),
    ("router-reboots", "6.49"),
    ("disk-hangs", "7.22"),
)
# By scenario, router, profile. They take two minutes.
PROVISIONING = (
    ("provision-factory", "6.49", "hap-ac2"),
    ("provision-grown", "6.49", "rb2011"),
)
BITES = (
    ("provision-factory", "7.22"),
    ("failover-blackhole", "6.49"),
    ("failover-unplug", "7.22"),
    ("agent-killed", "7.22"),
)


class Stories:
    """The running stories, by their command line."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="edgeagent-stories-"))
        self.running: dict[tuple[str, ...], tuple[subprocess.Popen[str], Path]] = {}
        self.begun = threading.Condition()
        self.over = threading.Event()

    def start(self) -> None:
        """All of them, begun one by one, ``AT_ONCE`` side by side: else the machine is too slow for their figures."""
        threading.Thread(target=self._keep_going, daemon=True).start()

    def _keep_going(self) -> None:
        """Ends with the session and not before: the system tells the stories to end when their parent's thread does."""
        waiting: list[tuple[str, ...]] = [("run", scenario, "--router", router) for scenario, router in STORIES]
        waiting += [("run", name, "--router", router, "--profile", profile) for name, router, profile in PROVISIONING]
        waiting += [("bite", scenario, "--router", router) for scenario, router in BITES]
        waited_s = UP_S
        while waiting and not self.over.wait(TICK_S):
            waited_s += TICK_S
            alive = sum(process.poll() is None for process, _ in list(self.running.values()))
            if alive < AT_ONCE and (waited_s >= UP_S or self._is_up()):
                with self.begun:
                    self._start(*waiting.pop(0))
                    self.begun.notify_all()
                waited_s = 0.0
        self.over.wait()

    def _is_up(self) -> bool:
        """Whether the site of the story begun last is up, or it has ended. Starting a site is the hardest work."""
        process, report = next(reversed(self.running.values()))
        logs = report.with_name(f"{report.stem}.events").glob("*/bench.events")
        return process.poll() is not None or any('"site up"' in log.read_text() for log in logs)

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
        with self.begun:
            self.begun.wait_for(lambda: words in self.running, WAIT_S)
            process, report = self.running[words]
        output, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, output, report

    def stop(self, *, passed: bool) -> Path | None:
        """End what still runs and clear away what it leaves. The folder of the logs, unless all has passed."""
        with self.begun:
            self.over.set()
            running = [process for process, _ in self.running.values() if process.poll() is None]
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
