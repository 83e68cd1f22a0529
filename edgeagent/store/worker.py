"""One dedicated thread for everything that may block on the disk.

Not the loop's thread, for a hung disk must delay no probe (clause L6); not the default executor, whose threads name
resolution and others share and whose exit handler would wait for a hung disk for ever. The thread is a daemon: a
process that has flushed what it could may always exit.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, ParamSpec, TypeVar

from edgeagent.store.errors import StoreUnavailable

MAX_WAITING = 256  # calls; at a few a second this is minutes of a hung disk

P = ParamSpec("P")
T = TypeVar("T")


class _Job(NamedTuple):
    run: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Any]"


class Worker:
    """Runs calls one after the other, in order."""

    def __init__(self, name: str = "store") -> None:
        self._name = name
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls not begun yet; a growing number means a slow or hung disk."""
        return self._jobs.qsize()

    async def call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """fn(*args) on the worker's thread. Cancelling the wait (asyncio.wait_for) gives up the answer, not the call:
        what was handed over is still done, in order. Raises StoreUnavailable "hung" when too many calls wait, "closed"
        after close().
        """
        if self._closing:
            raise StoreUnavailable("closed", self._name)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        try:
            self._jobs.put_nowait(_Job(lambda: fn(*args, **kwargs), loop, answer))
        except queue.Full:
            raise StoreUnavailable("hung", self._name) from None
        return await answer

    async def close(self, deadline_s: float) -> bool:
        """Take no more calls and finish those handed over; False if that took longer than `deadline_s`: then do not
        wait.
        """
        self._closing = True
        with suppress(queue.Full):
            self._jobs.put_nowait(None)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        while self._thread.is_alive() and loop.time() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a thread cannot be awaited
        return not self._thread.is_alive()

    def _work(self) -> None:
        while not (self._closing and self._jobs.empty()):
            job = self._jobs.get()
            if job is None:
                return
            self._run(job)
            del job  # do not keep the last call's data while waiting for the next

    @staticmethod
    def _run(job: _Job) -> None:
        try:
            result = job.run()
        except BaseException as error:  # noqa: BLE001  (this is a thread's boundary: the caller gets it, whatever it is)
            _deliver(job, _set_error, error)
        else:
            _deliver(job, _set_result, result)


def _deliver(job: _Job, setter: Callable[["asyncio.Future[Any]", Any], None], value: object) -> None:
    with suppress(RuntimeError):  # the loop has ended; nobody waits for the answer any more
        job.loop.call_soon_threadsafe(setter, job.answer, value)


def _set_result(answer: "asyncio.Future[Any]", value: object) -> None:
    if not answer.done():
        answer.set_result(value)


def _set_error(answer: "asyncio.Future[Any]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
