"""``edgeagent status --watch``: a line for each change, or a picture on a terminal; as a process, and in parts."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.cli import watch
from edgeagent.core.faults import CATALOGUE
from edgeagent.daemon.control import StatusSocket
from edgeagent.daemon.loop import EVENTS_MAX
from tests.agent.support import run, until
from tests.agent.test_loop import SlowStore, failed_over, looping
from tests.agent.test_status import write_site

PATH = {"verdict": "up", "for_s": 9.0, "answered_ago_s": 0.4, "lost_in_a_row": 0, "address": "192.0.2.2"}


class Agent:
    """Stands for the agent's end of the control socket."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}

    def happens(self, what: str, /, *, ago_s: float = 0.0, **data: Any) -> None:
        last = self.events[-1]["number"] if self.events else 0
        self.events.append({"number": last + 1, "kind": what, "data": data, "ago_s": ago_s})

    def document(self) -> dict[str, Any]:
        told = {"format": 1, "site": "site-7", "path": "primary", "phase": "home", "since_s": 12.0, "incident": None}
        told |= {"phones": 6, "calls": 0, "faults": {}, "plan": None, "paths": {"primary": PATH, "lte": PATH}}
        return {**told, "events": self.events, **self.more}


def _heeds_ctrl_c() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@asynccontextmanager
async def watching(folder: Path, output: int) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "edgeagent", "--site", str(write_site(folder)), "status", "--watch"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "110"},
        preexec_fn=_heeds_ctrl_c,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


LIVELY_S = 300.0  # only against a hang: the machine may be busy with the stories of the bench


def texts_of(lines: list[str]) -> list[str]:
    """Without the times, whose form is checked."""
    assert all(re.fullmatch(r" *\d+\.\d s  .+", line) for line in lines), lines
    return [line.partition(" s  ")[2] for line in lines]


def test_each_change_is_a_line_and_an_agent_that_goes_is_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        agent, said = Agent(), list[str]()
        agent.happens("path", path="primary", verdict="up", cause="probes")  # before the watch: not told
        socket = StatusSocket(tmp_path / "control.sock", agent.document)
        async with watching(tmp_path, asyncio.subprocess.PIPE) as process:
            assert process.stdout is not None

            async def heard(text: str) -> None:
                assert process.stdout is not None
                async with asyncio.timeout(LIVELY_S):
                    while not said or text not in said[-1]:
                        said.append((await process.stdout.readline()).decode().rstrip("\n"))

            await heard("no agent answers at")
            await socket.open()
            await heard("data plan: not metered by this version")
            agent.happens("path", path="primary", verdict="down", cause="link")
            agent.happens("place", phase="away", path="lte", incident="i", waiting=0)
            agent.happens("notice", kind="failover", audience="customer", incident="i")
            agent.more = {"phones": 6, "calls": 1}
            await heard("6 phones, 1 in a call")
            agent.happens("place", phase="returning", path="lte", incident="i", waiting=5)
            agent.happens("place", phase="home", path="primary", incident="", waiting=0)
            await heard("restored to primary")
            await socket.close()
            await heard("no agent answers at")
            await socket.open()
            await heard("data plan")
            agent.events.clear()  # a new agent counts from 1
            agent.happens("fault raised", code="no_path")
            await heard("FAULT no_path: Neither the primary line nor any backup works.")
            agent.happens("fault cleared", code="no_path")  # and in the last second before the end
            process.send_signal(signal.SIGINT)
            said += (await process.stdout.read()).decode().splitlines()
            assert await process.wait() == 0
        await socket.close()
        told = texts_of(said)
        begun = told.index("data plan: not metered by this version")
        assert told[begun + 1 : begun + 7] == [
            "primary is down: the router lost the link of its primary port",
            "failover to LTE",
            "mail to customer: failover",
            "6 phones, 1 in a call",
            "returning to primary: 5 phones go one by one, each when it costs no call",
            "restored to primary",
        ]
        assert told[-1] == "over: no_path"
        assert sum(text.startswith("no agent answers") for text in told) == 2
        assert "primary is up" not in told

    run(test)


def test_times_are_those_of_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 101.0, 120.0])
    monkeypatch.setattr("edgeagent.host.clock.mono_s", lambda: next(times))
    agent, told = Agent(), io.StringIO()
    view = watch.Lines()
    with contextlib.redirect_stdout(told):
        view.present(agent.document())
        agent.happens("place", phase="away", path="lte", incident="i", ago_s=3.5)
        view.present(agent.document())
    assert told.getvalue().splitlines()[-1] == "   16.5 s  failover to LTE"


@pytest.mark.parametrize("code", list(CATALOGUE))
def test_every_kind_of_event_has_words(code: str) -> None:
    for kind in ("fault raised", "fault cleared"):
        assert code in watch.event_text({"kind": kind, "data": {"code": code}})
    assert watch.event_text({"kind": "of a later version", "data": {}}) == "of a later version"


@pytest.mark.parametrize(
    ("mail", "line"),
    [
        ({"queued": 2, "failed": None}, "mail: 2 waiting"),
        ({"queued": 2, "failed": "mail_refused"}, "mail: 2 waiting, the last try failed (mail_refused)"),
    ],
)
def test_the_mails_are_shown_where_the_agent_tells_of_them(mail: dict[str, Any], line: str) -> None:
    assert watch.standing({"mail": mail, "plan": None}) == ["data plan: not metered by this version", line]
    assert watch.standing({}) == []


def test_on_a_terminal_it_is_a_picture(tmp_path: Path) -> None:
    async def test() -> None:
        agent = Agent()
        agent.more = {"path": "lte", "phase": "away", "calls": 2, "faults": {"no_path": 3.0}}
        agent.happens("place", phase="away", path="lte", incident="i", ago_s=4.0)
        socket = StatusSocket(tmp_path / "control.sock", agent.document)
        await socket.open()
        ours, theirs = pty.openpty()
        seen = bytearray()
        asyncio.get_running_loop().add_reader(ours, lambda: seen.extend(_read(ours)))
        try:
            async with watching(tmp_path, theirs) as process:
                os.close(theirs)
                await until(lambda: b"failover to LTE" in seen)
                await socket.close()
                await until(lambda: b"no agent answers" in seen)
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 0
        finally:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
        for text in ("voice on LTE (away)", "192.0.2.2", "lost in a row", "6 phones, 2 in a call", "4.0 s ago"):
            assert text in shown
        assert "Neither the primary line nor any backup works." in shown
        assert "\x1b[" in seen.decode()

    run(test)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def test_only_a_picture_costs_the_library_that_draws_it() -> None:
    without = "import sys, edgeagent.cli.main, edgeagent.cli.watch; print('rich' in sys.modules)"
    for script, loaded in ((without, "False"), (f"import edgeagent.cli.screen; {without}", "True")):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == loaded


def test_the_status_holds_the_last_events_with_their_age_clause_c5(tmp_path: Path) -> None:
    async def test(it: Any, _store: SlowStore, log: list[tuple[float, str]]) -> None:
        await failed_over(it)
        await until(lambda: any(what == "act" for _, what in log))
        events = it.document()["events"]
        assert [event["number"] for event in events] == list(range(1, len(events) + 1))
        kinds = [event["kind"] for event in events]
        assert kinds.index("path") < kinds.index("place") < kinds.index("notice")
        assert all(0.0 <= event["ago_s"] < 5.0 for event in events)
        for number in range(EVENTS_MAX):
            it.events.append(it.events[-1].__class__(100 + number, "path", {}, 0.0))
        assert len(it.document()["events"]) == EVENTS_MAX

    looping(tmp_path, test)
