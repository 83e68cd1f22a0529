"""``make demo`` as a newcomer meets it: as a process, with all that could go wrong in it done from outside.

The runs go in twos, side by side, each on ports and in a folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.demo.story import site_lease

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 60.0  # what the demo may take after set-up
GIVE_UP_S = 600.0
NICE = -5  # as root: beside the stories of the bench, not behind them, for it is measured by the clock, too
USER = 64321  # nobody's; so is its group
DEMO = [sys.executable, "-m", "hil", "demo"]
WITNESS = (
    "import socket\n"
    "try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close(); print('may ping')\n"
    "except PermissionError: print('may not ping')\n"
)


class Run:
    """One demo under way, or over: what it said, how it ended and how long it took."""

    def __init__(self, *words: str, command: list[str] | None = None, act: Callable[[Run], None] | None = None) -> None:
        self.output = ""
        self.took_s = 0.0
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            # nice(1) adds to what we have ourselves
            [*(["nice", "-n", str(NICE - os.nice(0))] if os.geteuid() == 0 else []), *(command or [*DEMO, *words])],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.actor = threading.Thread(target=act, args=(self,)) if act else None
        if self.actor:
            self.actor.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.output += line
        self.process.wait()
        self.took_s = time.monotonic() - self.began_s

    def result(self) -> int:
        """The exit code, waited for."""
        self.reader.join(GIVE_UP_S)
        if self.reader.is_alive():
            self.process.kill()
            pytest.fail(f"the demo did not end:\n{self.output}")
        if self.actor:
            self.actor.join()
        return self.process.wait()

    def said(self, text: str) -> bool:
        """Wait until it has said this; False where it ended before."""
        while text not in self.output and self.reader.is_alive():
            time.sleep(0.05)
        return text in self.output


def programs_of(run: Run) -> dict[int, list[str]]:
    """The programs that a demo has started: their command lines by process id."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == run.process.pid:
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text().split("\0")
    return found


def alive(pid: int, command: list[str]) -> bool:
    """Whether that program still runs."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0") == command
    return False


def kill_the_agent(run: Run) -> None:
    """When half of it is over."""
    if run.said("failover to LTE"):
        for pid, command in programs_of(run).items():
            if "run" in command:
                os.kill(pid, signal.SIGKILL)


class Stopped:
    """SIGTERM in the midst of it, and who was alive then."""

    programs: dict[int, list[str]]

    def __call__(self, run: Run) -> None:
        if run.said("failover to LTE"):
            self.programs = programs_of(run)
            assert all(alive(*program) for program in self.programs.items())
            run.process.send_signal(signal.SIGTERM)


STOPPED = Stopped()


class Runs(dict[str, Run]):
    """By name. Who asks for one starts it, and the one that goes beside it: more, and none would have its minute."""

    def __init__(self, *pairs: dict[str, Callable[[], Run]]) -> None:
        super().__init__()
        self.pairs = pairs

    def __missing__(self, name: str) -> Run:
        pair = next(pair for pair in self.pairs if name in pair)
        self.update({each: start() for each, start in pair.items()})
        return self[name]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with contextlib.ExitStack() as stack:
        found = Runs(
            {"one": Run, "other": lambda: Run("--router", "6.49")},
            {"refused": lambda: Run("--refuse-mail"), "killed": lambda: Run(act=kill_the_agent)},
            {
                "stopped": lambda: Run(act=STOPPED),
                "user": lambda: Run(command=_as_user(Path(stack.enter_context(_folder())))),
            }
            if os.geteuid() == 0
            else {"stopped": lambda: Run(act=STOPPED)},
        )
        yield found
        for run in found.values():
            if run.process.poll() is None:
                run.process.kill()
            run.reader.join()


@pytest.mark.parametrize("name", ["one", "other"])
def test_two_demos_side_by_side_end_well_within_a_minute(runs: Runs, name: str) -> None:
    run = runs[name]
    assert run.result() == 0, run.output
    assert run.took_s < LIMIT_S, run.output
    lines = run.output.splitlines()
    moved = [line.partition(" s  ")[2] for line in lines if line.endswith(("failover to LTE", "restored to primary"))]
    assert moved == ["failover to LTE", "restored to primary"], run.output
    assert any("6 phones, 1 in a call" in line for line in lines), run.output
    subjects = [line for line in lines if line.startswith("Subject: ")]
    assert [word in subject for word, subject in zip(("cellular backup", "back on"), subjects, strict=True)] == [
        True
    ] * 2
    assert "Traceback" not in run.output
    assert "\x1b" not in run.output  # plain lines: this is no terminal


def test_a_mail_server_that_refuses_makes_the_demo_fail(runs: Runs) -> None:
    run = runs["refused"]
    assert run.result() == 1, run.output
    assert "DEMO FAILED: missing after" in run.output
    assert "the mails of the failover" in run.output
    assert "refused" in run.output  # the agent's own words are shown


def test_an_agent_killed_half_way_makes_the_demo_fail(runs: Runs) -> None:
    run = runs["killed"]
    assert run.result() == 1, run.output
    assert "DEMO FAILED: the agent ended by itself (signal 9)" in run.output
    assert "restored to primary" not in run.output


def test_a_demo_told_to_end_leaves_nothing_behind(runs: Runs) -> None:
    run = runs["stopped"]
    assert run.result() == 128 + signal.SIGTERM, run.output
    assert len(STOPPED.programs) == 3
    assert not any(alive(*program) for program in STOPPED.programs.items())
    folder = next(word for word in run.output.split() if word.endswith("/site.toml.")).removesuffix("/site.toml.")
    assert not Path(folder).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_ordinary_user_who_may_not_ping_runs_it_in_a_fresh_copy(runs: Runs) -> None:
    run = runs["user"]
    code = run.result()
    if "cannot mount here: " in run.output:
        pytest.skip(next(line for line in run.output.splitlines() if line.startswith("cannot mount here: ")))
    assert code == 0, run.output
    assert run.output.splitlines()[:3] == ["may ping", "may not ping", f"{USER} {USER}"]
    assert run.took_s < LIMIT_S
    assert "failover to LTE" in run.output
    assert "restored to primary" in run.output


def heard(*spoken: tuple[str, str, str]) -> list[dict[str, Any]]:
    """A router's log: one sentence after the other, with its outcome and the id that the reply gave."""
    events: list[dict[str, Any]] = []
    for number, (words, outcome, ret) in enumerate(spoken):
        key = {"session": 1, "sentence": number, "t": float(number)}
        events.append({**key, "event": "sentence", "words": words.split()})
        events.append({**key, "event": "reply", "outcome": outcome, "ret": ret})
    return events


TAKE = "/ip/firewall/address-list/add =list=edge-lte-site =address=0.0.0.0/0"
OTHER = "/ip/firewall/address-list/add =list=edge-alive =address=0.0.0.0/0"
GIVE = "/ip/firewall/address-list/remove =.id=*8,*7"


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ([(TAKE, "done", "*7"), (GIVE, "done", "")], (0.0, 1.0)),
        ([(TAKE, "done", "*7")], (0.0, None)),
        ([(TAKE, "trap", ""), (GIVE, "done", "")], (None, None)),
        ([(TAKE, "done", "*9"), (GIVE, "done", "")], (0.0, None)),
        ([(TAKE, "done", "*7"), (GIVE, "trap", "")], (0.0, None)),
        ([(OTHER, "done", "*7"), (GIVE, "done", "")], (None, None)),
    ],
)
def test_only_a_lease_that_was_taken_and_given_back_counts(
    spoken: list[tuple[str, str, str]], expected: tuple[float | None, float | None]
) -> None:
    lapsed = [{"event": "lapsed", "t": 9.0, "menu": "/ip/firewall/address-list", "row": {"list": "edge-lte-site"}}]
    assert site_lease(heard(*spoken) + lapsed) == expected


# --- somebody else's fresh copy ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="edgeagent-copy-")
    Path(folder).chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user(folder: Path) -> list[str]:
    """A command that runs ``make demo`` in a copy of this tree, as nobody, in a network of its own with loopback only.

    The interpreter and its packages may lie where that user may not look, so they are mounted into the copy.
    """
    copy, home = folder / "repository", folder / "home"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = copy / ".venv" / "lib" / version / "site-packages"
    for made in (home, folder / "python", packages, copy / ".venv" / "bin"):
        made.mkdir(parents=True)
    (copy / ".venv" / "bin" / "python").symlink_to(folder / "python" / "bin" / version)
    (copy / ".venv" / "pyvenv.cfg").write_text(f"home = {folder / 'python' / 'bin'}\n")
    (copy / ".venv" / ".installed").touch()
    for one in (home, copy, *copy.rglob("*")):
        os.chown(one, USER, USER, follow_symlinks=False)
    (folder / "witness.py").write_text(WITNESS)
    script = f"""
        mount --bind {sys.base_prefix} {folder}/python && mount --bind {sysconfig.get_path("purelib")} {packages} || {{
            echo "cannot mount here: a copy of the interpreter for another user"; exit 77; }}
        set -e
        ip link set lo up
        cd {copy}
        user="setpriv --reuid {USER} --regid {USER} --clear-groups env -i"
        user="$user HOME={home} PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        user="$user LD_LIBRARY_PATH={folder}/python/lib"
        echo "0 2147483647" > /proc/sys/net/ipv4/ping_group_range
        $user .venv/bin/python {folder}/witness.py
        echo "1 0" > /proc/sys/net/ipv4/ping_group_range
        $user .venv/bin/python {folder}/witness.py
        $user sh -c 'echo $(id -u) $(id -G)'
        exec $user make demo
    """
    return ["unshare", "--net", "--mount", "sh", "-c", script]
