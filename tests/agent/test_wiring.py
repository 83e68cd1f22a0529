"""How the daemon starts a failed subsystem again."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from edgeagent.daemon import wiring
from edgeagent.daemon.wiring import Daemon
from edgeagent.routeros.errors import RouterUnreachable

NEVER_S = 3600.0


def starts(lived_s: float, watched_s: float) -> int:
    """How often a subsystem is begun that breaks after ``lived_s``, until the second time or for so long."""

    async def play() -> int:
        count = 0
        twice = asyncio.Event()

        async def work() -> None:
            nonlocal count
            count += 1
            if count > 1:
                twice.set()
                await asyncio.Event().wait()
            await asyncio.sleep(lived_s)
            raise RouterUnreachable("the router has rebooted")

        task = asyncio.create_task(Daemon._forever("actuator", work))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(twice.wait(), watched_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return count

    return asyncio.run(play())


def test_a_connection_that_has_worked_is_opened_anew_at_once_clause_l6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "AGAIN_S", NEVER_S)
    monkeypatch.setattr(wiring, "LIVED_S", 0.05)
    assert starts(lived_s=0.1, watched_s=20.0) == 2


def test_one_that_fails_at_once_is_not_tried_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "AGAIN_S", NEVER_S)
    assert starts(lived_s=0.0, watched_s=0.5) == 1
