"""A router as it was bought, in this process, and the real program against it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hil.virtual.routeros.certificate import make_certificate
from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.export import Export
from hil.virtual.routeros.initial import Initial
from hil.virtual.routeros.model import ModelPlane
from hil.virtual.routeros.server import Router, RouterOptions
from hil.virtual.routeros.values import Version
from tests.agent.support import GOOD, GUARD_S, owners_router
from tests.virtual_routeros.client import host_key

OWNER, OWNER_PASSWORD = "admin", "the-owners-own-secret"
FACTORY_SERVICE = {"address": "", "certificate": "none", "disabled": "false"}


OVER_SSH = ("ssh_command", "ssh_reply", "sftp")


class Heard(EventLog):
    """The router's event log, which calls back at each thing that came over SSH."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.count = 0
        self.at_each: Callable[[int], None] = lambda count: None
        self.at_line: Callable[[str], None] = lambda line: None

    def write(self, event: str, t: float | None = None, **details: object) -> None:
        super().write(event, t, **details)
        if event in OVER_SSH:
            self.count += 1
            self.at_each(self.count)
        if event == "ssh_command":
            self.at_line(str(details["line"]))


class Done:
    """How one run of the program ended."""

    def __init__(self, code: int, out: str, err: str, command_lines: set[str]) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.command_lines = command_lines

    @property
    def said(self) -> str:
        return self.out + self.err


class Site:
    """One router and one agent's machine."""

    def __init__(self, folder: Path, router: Router, plane: ModelPlane, heard: Heard) -> None:
        self.folder = folder
        self.router = router
        self.plane = plane
        self.heard = heard
        self.site = folder / "site.toml"
        self.password_file = folder / "router.password"
        self.certificate = folder / "router.crt"
        self.host_key_file = folder / "router.hostkey"
        self.owner_file = folder / "owner"
        self.kill: Callable[[], None] = lambda: None

    @property
    def fingerprint(self) -> str:
        assert self.router.ssh is not None
        raw = base64.b64decode(self.router.ssh.host_key.split(" ")[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")

    def rows(self, menu: str) -> list[dict[str, str]]:
        return self.router.store.rows(menu)

    def names(self, menu: str) -> set[str]:
        return {row["name"] for row in self.rows(menu)}

    def service(self) -> dict[str, str]:
        row = self.router.store.row("/ip/service", self.router.store.service("api-ssl"))
        return {name: row.get(name, "") for name in FACTORY_SERVICE}

    def export(self) -> str:
        """All of the configuration with its secrets, its users, certificates and files; the date is left out."""
        text = Export(self.router.store, secrets=True).text()
        users = [{k: v for k, v in row.items() if k != ".id"} for row in self.rows("/user")]
        rest = {menu: sorted(self.names(menu)) for menu in ("/certificate", "/file", "/system/scheduler")}
        return re.sub(r"(?m)^# .* by RouterOS", "# by RouterOS", text) + json.dumps([users, rest], sort_keys=True)

    def ours(self) -> set[str]:
        """What of ours the router has."""
        places = {"/user": "edgeagent", "/user/group": "edgeagent", "/certificate": "edgeagent"}
        found = {menu for menu, name in places.items() if name in self.names(menu)}
        files = {f"file {name}" for name in self.names("/file") if name.startswith("edgeagent")}
        jobs = {f"job {name}" for name in self.names("/system/scheduler")}
        return found | files | jobs | ({"service"} if self.service()["certificate"] == "edgeagent" else set())

    def log(self) -> str:
        """The router's own log."""
        return "\n".join(row["message"] for row in self.rows("/log"))

    def heard_lines(self) -> list[str]:
        """The console line of each thing that came over SSH; nothing for an answer or a file."""
        events = map(json.loads, (self.folder / "events.jsonl").read_text().splitlines())
        return [event.get("line", "") for event in events if event["event"] in OVER_SSH]

    async def upload(self, name: str, data: bytes) -> None:
        """A file put onto the router by its owner."""
        await self.router._files.write(name, data)

    async def console(self, line: str) -> str:
        """A line given by the owner at the console."""
        assert self.router.ssh is not None
        return await self.router.ssh.console.run(line, self.router.access.local)

    async def give_certificate(self, name: str) -> None:
        """A certificate of the owner's own on api-ssl, so that it differs from how the router was bought."""
        certificate, key = await asyncio.to_thread(make_certificate, self._spare(), "127.0.0.1")
        await self.upload("owners.pem", certificate.read_bytes() + key.read_bytes())
        await self.router.store.sentence(["/certificate/import", "=file-name=owners.pem", f"=name={name}"])
        await self.router.store.sentence(["/file/remove", "=.id=owners.pem"])
        await self.router.store.sentence(["/ip/service/set", "=.id=api-ssl", f"=certificate={name}"])

    def _spare(self) -> Path:
        found = self.folder / "owners"
        found.mkdir(exist_ok=True)
        return found

    async def back(self) -> None:
        """Once a reboot is over."""
        while self.router.rebooting:  # noqa: ASYNC110  a router says nothing while it starts
            await asyncio.sleep(0.01)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "edgeagent", "--site", str(self.site), "provision", *words]

    def bootstrap_words(self, *more: str, owner: str = OWNER) -> list[str]:
        port = str(self.router.ports["ssh"])
        secret = [] if "--ssh-key-file" in more else ["--ssh-password-file", str(self.owner_file)]
        return ["--ssh-user", owner, "--ssh-port", port, *secret, "--host-key", self.fingerprint, *more]

    async def bootstrap(self, *more: str, owner: str = OWNER, at: int = 0) -> Done:
        return await self.run("--bootstrap", *self.bootstrap_words(*more, owner=owner), at=at)

    async def run(self, *words: str, at: int = 0, after_s: float = 0.0) -> Done:
        """Run the program; kill it (SIGKILL) at the ``at``-th thing that the router hears of it, or after a time."""
        process = await asyncio.create_subprocess_exec(
            *self.command(*words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        first = self.heard.count

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)

        def at_each(count: int) -> None:
            if at and count - first == at:
                kill()

        self.kill = kill

        self.heard.at_each = at_each
        seen: set[str] = set()
        watching = asyncio.create_task(_watch(process.pid, seen))
        killing = asyncio.create_task(_kill_after(process, after_s)) if after_s else None
        try:
            async with asyncio.timeout(GUARD_S):
                out, err = await process.communicate()
        finally:
            self.heard.at_each = lambda count: None
            watching.cancel()
            if killing is not None:
                killing.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode(), seen)


async def _watch(pid: int, seen: set[str]) -> None:
    """The command line and the environment of a process, again and again: a program may write into both."""
    while True:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                seen.add(await asyncio.to_thread(Path(f"/proc/{pid}/{name}").read_text, errors="replace"))
        await asyncio.sleep(0.02)


async def _kill_after(process: asyncio.subprocess.Process, after_s: float) -> None:
    await asyncio.sleep(after_s)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)


def bought(version: Version) -> dict[str, Any]:
    """A router as its owner has it, which nobody of ours has seen."""
    rules = owners_router(version)
    del rules["/user"], rules["/user/group"]
    return rules


@asynccontextmanager
async def place(
    folder: Path, version: Version = "7.22", initial: Initial | None = None, **options: Any
) -> AsyncIterator[Site]:
    """A router with SSH and a machine beside it; both end with the block."""
    heard = Heard(folder / "events.jsonl")
    start = bought(version) if initial is None else initial
    plane = ModelPlane()
    router = Router(
        RouterOptions(
            version,
            initial=start,
            tls_port=0,
            ssh_port=0,
            **{"password": OWNER_PASSWORD, "ssh_host_key": host_key(), **options},
        ),
        plane,
        heard,
    )
    await router.start()
    found = Site(folder, router, plane, heard)
    text = GOOD.replace("FOLDER", str(folder)).replace("port = 8729", f"port = {router.ports['api-ssl']}")
    found.site.write_text(text)
    found.owner_file.write_text(OWNER_PASSWORD + "\n")
    try:
        yield found
    finally:
        await router.stop()
        heard.close()
        assert router.error is None, router.error


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
