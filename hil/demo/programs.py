"""The programs of the demo: started, watched, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

from hil.demo import site

ROOT = Path(__file__).resolve().parents[2]
ANSWER_S = 20.0
END_S = 20.0


class DemoFailed(Exception):
    """The demo did not show what it was to show; the text says what was missing."""


class Programs:
    """Router, agent and view, each a process of its own that dies with this one."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.version = version
        self.running: dict[str, Process] = {}
        self.router_port = 0

    async def start_router(self) -> None:
        """The virtual RouterOS on its model plane, TLS on a port of its own."""
        folder = self.folder
        site.write_router_files(folder)
        options = {"version": self.version, "profile": site.PROFILE, "listen": site.HOST, "port": 0, "tls-port": 0}
        options |= {"cert": folder / "router.crt", "key": folder / "router.key", "initial": folder / "initial.json"}
        options |= {"control": folder / "router.sock", "events": folder / "router.jsonl"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        process = await self._start("router", "hil", "router", *words, stdout=PIPE)
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise DemoFailed(f"the virtual router did not start: {self.tail('router')}")
        self.router_port = json.loads(line)["tls_port"]

    async def provision(self, site_file: Path) -> str:
        """What ``edgeagent provision --apply`` said."""
        process = await self._start(
            "provision", "edgeagent", "--site", str(site_file), "provision", "--apply", stdout=PIPE
        )
        said, _ = await process.communicate()
        del self.running["provision"]
        if process.returncode:
            raise DemoFailed(f"edgeagent provision ended with {process.returncode}: {self.tail('provision')}")
        return said.decode().strip()

    async def start_agent(self, site_file: Path) -> None:
        """The agent, as its service would run it."""
        await self._start("agent", "edgeagent", "--site", str(site_file), "run", stdout=DEVNULL)

    async def start_view(self, site_file: Path) -> None:
        """The live view, in the foreground: Ctrl-C reaches it, and it draws on our terminal."""
        words = [sys.executable, "-m", "edgeagent", "--site", str(site_file), "status", "--watch"]
        self.running["view"] = await asyncio.create_subprocess_exec(*_dying(words), cwd=ROOT, stdin=DEVNULL)

    async def _start(self, name: str, module: str, *words: str, stdout: int) -> Process:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *_dying([sys.executable, "-m", module, *words]),
                cwd=ROOT,
                stdin=DEVNULL,
                stdout=stdout,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we end the others in order
            )
        self.running[name] = process
        return process

    def check(self) -> None:
        """Raises DemoFailed where one of them has ended by itself."""
        for name, process in self.running.items():
            if process.returncode is not None:
                how = f"signal {-process.returncode}" if process.returncode < 0 else f"code {process.returncode}"
                raise DemoFailed(f"the {name} ended by itself ({how}): {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of a program's log."""
        log = self.folder / f"{name}.log"
        said = log.read_text(errors="replace").strip() if log.exists() else ""
        return said[-1000:] or "it said nothing"

    async def stop(self, name: str, number: signal.Signals) -> None:
        """End one in order; it is killed if it does not."""
        process = self.running.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def stop_all(self) -> None:
        """The view first, so that it does not tell of our clearing away."""
        for name, number in (("view", signal.SIGINT), ("agent", signal.SIGTERM), ("router", signal.SIGTERM)):
            await self.stop(name, number)
        for name in list(self.running):
            await self.stop(name, signal.SIGTERM)

    async def status(self) -> dict[str, Any]:
        """The agent's status document; empty while it does not answer."""
        try:
            answer: dict[str, Any] = json.loads(await _asked(self.folder / "agent.sock", b""))
        except (OSError, ValueError, TimeoutError):
            return {}
        return answer

    async def router(self, **request: Any) -> dict[str, Any]:
        """One operation of the router's control socket."""
        try:
            answer: dict[str, Any] = json.loads(
                await _asked(self.folder / "router.sock", json.dumps(request).encode() + b"\n")
            )
        except (OSError, ValueError, TimeoutError) as error:
            self.check()
            raise DemoFailed(f"the virtual router does not answer: {error}") from error
        if not answer.get("ok"):
            raise DemoFailed(f"the virtual router refused {request.get('op')}: {answer.get('error')}")
        return answer

    def heard(self) -> list[dict[str, Any]]:
        """The router's event log."""
        return [json.loads(line) for line in (self.folder / "router.jsonl").read_text().splitlines()]


def _dying(words: list[str]) -> list[str]:
    """A command that is killed should we be (util-linux has setpriv; without it the command as it is)."""
    return ["setpriv", "--pdeathsig", "KILL", *words] if shutil.which("setpriv") else words


async def _asked(path: Path, request: bytes) -> bytes:
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 22)
        try:
            writer.write(request)
            return await reader.readline()
        finally:
            writer.close()
