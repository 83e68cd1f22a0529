"""Real programs in network namespaces: start, reach, and end with their whole process tree.

The bench's topology hands over one callable, :data:`Spawn`, that starts a program in the namespace of a *role*. Nothing
here knows namespace names: each program is started by a one-line shell that first notes its own process id, then
becomes the program. From that id come both the namespace to open sockets in and the tree to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

# (role, argv, log name) -> the started process, its output going to a log of that name. Roles: "prov", "isp", "ph1"...
Spawn = Callable[[str, Sequence[str], str], "subprocess.Popen[bytes]"]

T = TypeVar("T")

# How long the bench waits for a program of its own to start, answer or end. Nothing is judged by it, so it is generous:
# a machine that is slow is no broken bench.
GUARD_S: Final = 90.0
_CLONE_NEWNET: Final = 0x40000000  # <linux/sched.h>
_POLL_S: Final = 0.02


class ProgramError(RuntimeError):
    """A program of the bench did not start, did not answer or did not end. The bench is at fault, not the product."""


class Program:
    """One started program: its process tree and its namespace."""

    def __init__(self, name: str, spawn: Spawn, folder: Path) -> None:
        self.name = name
        self.pid: int | None = None
        self._spawn = spawn
        self._pid_path = folder / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, role: str, argv: Sequence[str], *, output: Path | None = None) -> None:
        """Start in the namespace of ``role``; returns once the program's process exists there.

        ``output``: a file that gets standard output and error instead of the topology's log, for a program whose
        output is read back.
        """
        if self._process is not None:
            raise ProgramError(f"{self.name} is started already; stop it first")
        self._pid_path.parent.mkdir(parents=True, exist_ok=True)
        self._pid_path.unlink(missing_ok=True)
        target = shlex.quote(str(self._pid_path))
        redirect = f" >>{shlex.quote(str(output))} 2>&1" if output else ""
        # Moved into place, so that a reader never finds the file without the number.
        script = f'echo $$ >{target}.new && mv {target}.new {target} && exec "$@"{redirect}'
        self._process = self._spawn(role, ["/bin/sh", "-c", script, "sh", *argv], self.name)
        await wait_until(lambda: self._pid_path.exists() or self.exit_code is not None, f"{self.name} to start")
        if not self._pid_path.exists():
            raise ProgramError(f"{self.name} did not start: exit code {self.exit_code}; see its log")
        self.pid = int(self._pid_path.read_text())

    @property
    def exit_code(self) -> int | None:
        """The exit code once the program has ended by itself, else None."""
        return self._process.poll() if self._process is not None else None

    @property
    def running(self) -> bool:
        """Started and not ended."""
        return self._process is not None and self._process.poll() is None

    def in_namespace(self, make: Callable[[], T]) -> T:
        """What ``make`` returns when run inside the program's network namespace; a socket stays there for good."""
        if self.pid is None:
            raise ProgramError(f"{self.name} is not running; there is no namespace to enter")
        return in_namespace(Path(f"/proc/{self.pid}/ns/net"), make)

    async def stop(self, *, grace_s: float = 0.0) -> None:
        """End the whole tree: SIGTERM to its head, SIGKILL to whatever is left ``grace_s`` seconds later."""
        process, self._process, self.pid, head = self._process, None, None, self.pid
        if process is None:
            return
        # The list is taken before the head dies: afterwards its children belong to init and cannot be told apart.
        tree = {*process_tree(process.pid), *(process_tree(head) if head else ())}
        if grace_s > 0 and head is not None:
            _signal(head, signal.SIGTERM)
            until = time.monotonic() + grace_s
            while time.monotonic() < until and any(is_alive(member) for member in tree):
                process.poll()  # reaps our own child, which would else stay visible as a zombie
                await asyncio.sleep(_POLL_S)
        for member in tree:
            if is_alive(member):
                _signal(member[0], signal.SIGKILL)
        await asyncio.to_thread(process.wait, GUARD_S)
        await wait_until(lambda: not any(is_alive(member) for member in tree), f"{self.name} to end")
        self._pid_path.unlink(missing_ok=True)


async def run_in(spawn: Spawn, role: str, argv: Sequence[str], log_name: str) -> None:
    """Run a short command in the namespace of ``role`` to its end; raises ProgramError on a non-zero exit."""
    process = spawn(role, argv, log_name)
    code = await asyncio.to_thread(process.wait, GUARD_S)
    if code != 0:
        raise ProgramError(f"{shlex.join(argv)} in {role!r}: exit code {code}; see log {log_name!r}")


def in_namespace(namespace: Path, make: Callable[[], T]) -> T:
    """What ``make`` returns when run inside a network namespace (a file such as ``/proc/PID/ns/net``).

    A namespace is entered per thread (setns(2)), so a thread of its own does it and ends: the caller's never changes.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns: {os.strerror(number)}", str(namespace))
            finally:
                os.close(descriptor)
            result.append(make())
        except BaseException as error:  # noqa: BLE001 - carried over to the calling thread, raised there
            failure.append(error)

    thread = threading.Thread(target=work, name=f"in {namespace}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


async def wait_until(ready: Callable[[], bool], what: str) -> None:
    """Return as soon as ``ready()`` is true; ProgramError after ``GUARD_S``."""
    until = time.monotonic() + GUARD_S
    while not ready():
        if time.monotonic() >= until:
            raise ProgramError(f"waited {GUARD_S:g} s in vain for {what}")
        await asyncio.sleep(_POLL_S)


def tcp_answers(program: Program, address: str, port: int) -> bool:
    """True when a TCP connection to the port succeeds from inside the program's own namespace."""
    try:
        program.in_namespace(lambda: socket.create_connection((address, port), 0.5)).close()
    except OSError:
        return False
    return True


def process_tree(pid: int) -> set[tuple[int, int]]:
    """The process and all its descendants as (pid, start time in clock ticks): the pair is never reused."""
    parents: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (facts := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = (facts[1], facts[2])
    found: set[tuple[int, int]] = set()
    pending = [pid]
    while pending:
        current = pending.pop()
        if current in parents:
            found.add((current, parents[current][1]))
            pending.extend(child for child, (parent, _) in parents.items() if parent == current)
    return found


def is_alive(member: tuple[int, int]) -> bool:
    """True while that very process runs; a zombie is dead, only not yet reaped."""
    facts = _stat(member[0])
    return facts is not None and facts[2] == member[1] and facts[0] not in "ZX"


async def stop_all(stops: Sequence[Awaitable[None]]) -> None:
    """Await all; every one runs to its end before the first error is raised."""
    results = await asyncio.gather(*stops, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _stat(pid: int) -> tuple[str, int, int] | None:
    """(state, parent, start time in ticks) from proc(5), /proc/[pid]/stat; None when gone."""
    try:
        # The command name stands in brackets and may itself hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return fields[0], int(fields[1]), int(fields[19])


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
