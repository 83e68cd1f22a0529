"""A machine to install onto: this one's files and systemd, in namespaces of its own (see ``boot``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

BOOT = Path(__file__).with_name("boot")
BOOT_S = 60.0
CANNOT_MOUNT = 77


class CannotMount(Exception):
    """This machine does not let us."""


class Machine:
    """Use as a context. ``share`` is a folder that it sees as ``/mnt``."""

    def __init__(self) -> None:
        self.name = f"edge-scratch-{os.getpid()}"
        self.folder = Path(tempfile.mkdtemp(prefix="edgeagent-"))
        self.share = self.folder / "share"
        self.share.mkdir()
        (self.folder / "mounts").mkdir()

    def __enter__(self) -> Self:
        own = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        places = [self.name, str(self.folder / "mounts"), str(self.share)]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*own, str(BOOT), *places], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait_booted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        # Its groups are empty once its processes are gone, which the kernel sees to a little later.
        sweep = "mount -t cgroup2 cgroup2 $1 && find $1/$2 -depth -type d -exec rmdir {} +"
        command = ["unshare", "--mount", "sh", "-c", sweep, "sweep", str(self.folder / "mounts"), self.name]
        end_s = time.monotonic() + 10.0
        while subprocess.run(command, capture_output=True, check=False).returncode and time.monotonic() < end_s:
            time.sleep(0.1)
        shutil.rmtree(self.folder)

    def _wait_booted(self) -> None:
        end_s = time.monotonic() + BOOT_S
        while time.monotonic() < end_s:
            said = (self.folder / "log").read_text(errors="replace")
            if self.process.poll() is not None:
                raise CannotMount(said) if self.process.returncode == CANNOT_MOUNT else AssertionError(said)
            if self.run("systemctl", "is-active", "multi-user.target", check=False).stdout == "active\n":
                return
            time.sleep(0.1)
        raise AssertionError(f"not booted in {BOOT_S} s: {said}")

    def inside(self, *command: str) -> list[str]:
        """The command line that runs ``command`` in the machine."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        init = path.read_text().split()[0] if path.exists() and path.read_text().split() else "0"
        clean = [
            "env",
            "-i",
            "--chdir=/",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            *command,
        ]
        return ["nsenter", "--target", init, "--all", "--", *clean]

    def run(self, *command: str, check: bool = True, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.inside(*command), capture_output=True, text=True, check=False, timeout=timeout_s, errors="replace"
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def sh(self, script: str, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check).stdout

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def log(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    def addresses(self) -> list[str]:
        (card,) = json.loads(self.run("ip", "-json", "-4", "address", "show", "dev", "eth0").stdout)
        return [f"{one['local']}/{one['prefixlen']}" for one in card["addr_info"]]
