"""Clause X4: secrets, numbers, names and addresses are planted wherever the agent looks; no output may hold one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.config.redact import found_secrets, searchable
from edgeagent.core.facts import Instant
from edgeagent.core.intents import Notify
from edgeagent.daemon.control import StatusSocket
from edgeagent.host import clock
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.store import Store
from tests.adapters.certificates import certificate
from tests.adapters.smtp import Smtp
from tests.agent.support import GOOD, Rig, owners_router, rig, run
from tests.agent.test_bundle import opened
from tests.agent.test_status import DOCUMENT

ROUTER_PASSWORD = "Kanari-router-7Gx2"
MAIL_PASSWORD = 'Kanari "mail" 7Gx2/+'
SITE_KEY = "MC4CAQAwBQYDK2VwBCIEIKanari7Gx2KanariKanari"
CALLER, SIP_USER, DIALLED = "Zebulon Quackenbush", "quackenbush.zeb", "5550104477"
FAR, PHONE = "203.0.113.222", "192.168.88.31"
OWNER, SITE_NAME = "owner@kanari-bakery.example", "Kanari Bakery"
# Shapes in which they are planted: a number in several spellings, a name with and without a sign that one follows.
TALK = (
    f'<{OWNER}> "{CALLER}" <sip:{SIP_USER}@{FAR}:5060> dialled +1 (555) 010-4477 or 1-555-010-4477 or 15550104477 '
    f"or 555.010.4477; caller {CALLER} at {SITE_NAME} by {FAR} from {PHONE}"
)
SECRETS = searchable({"router": ROUTER_PASSWORD, "mail": MAIL_PASSWORD, "key": SITE_KEY})
SWITCHED_OFF = """
import sys
from edgeagent.config import redact
redact.Redactor.line = redact.Redactor.text = lambda self, text: text
redact.Redactor.value = lambda self, value, key="": value
redact.Redactor.status = redact.Redactor.config = lambda self, value: value
redact.Redactor.record = lambda self, kind, data: {"kind": kind, "data": data}
redact.found_secrets = lambda content, secrets: []
from edgeagent.cli.main import main
sys.exit(main())
"""


def canaries(output: str, *, leaves_the_site: bool) -> set[str]:
    """What was found in an output. Phones' addresses may stand in what stays on the site's machine."""
    plain = unicodedata.normalize("NFKC", output)
    found = set(found_secrets(output.encode(), SECRETS))
    digits = re.sub(r"[^\w\n]|_", "", plain)
    found |= {"dialled"} if DIALLED in digits else set()
    words: dict[str, tuple[str, ...]] = {
        "caller": ("zebulon", "quackenbush"),
        "owner": (OWNER, "kanari-bakery"),
        "site name": (SITE_NAME, "bakery"),
    }
    words |= {"far end": (FAR,)} | ({"phone": (PHONE,)} if leaves_the_site else {})
    return found | {what for what, parts in words.items() if any(part.lower() in plain.lower() for part in parts)}


class Bed:
    """A site with canaries in every source that the agent reads."""

    def __init__(self, folder: Path, on: Rig, mail_port: int) -> None:
        self.folder = folder
        self.on = on
        self.site = folder / "site.toml"
        self.socket = folder / "control.sock"
        text = GOOD.replace("FOLDER", str(folder)).replace("Bakery, Main Street", SITE_NAME)
        text = text.replace("owner@bakery.example", OWNER).replace("port = 8729", f"port = {on.port}")
        self.site.write_text(text.replace("port = 465", f"port = {mail_port}"))
        (folder / "router.password").write_text(ROUTER_PASSWORD + "\n")
        (folder / "mail.password").write_text(MAIL_PASSWORD + "\n")
        (folder / "site.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{SITE_KEY}\n-----END PRIVATE KEY-----\n")

    async def plant(self) -> None:
        """Into the router's rows, the journal, the outbox and the service manager's log."""
        lists = "/ip/firewall/address-list/add"
        await self.on.do(lists, "=list=edge-lte-phone", f"=address={PHONE}", f"=comment={TALK}")
        await self.on.do(lists, "=list=friends", f"=address={FAR}", f"=comment={CALLER} {DIALLED}")
        await self.on.do("/system/identity/set", f"=name={SITE_NAME} of {CALLER}")
        at = Instant(clock.mono_s() - 300.0, clock.boot_id(), 1_785_500_000.0, "synced")
        flows = [
            {"type": "FlowsSeen", "flows": [{"source": PHONE, "far": FAR, "protocol": "udp", "orig_bytes": 10**9}]}
        ]
        records = [
            Record(
                "path", at, {"path": "primary", "cause": TALK, "number": 15550104477, TALK: [TALK, ROUTER_PASSWORD]}
            ),
            Record("facts", at, msgspec.msgpack.encode(flows)),
            Record(TALK, at, {"caller": CALLER, "password": MAIL_PASSWORD}),
        ]
        notice = Notify("0b1c2d3e-1f", "failover", "customer", {"path": "lte", "cause": TALK, "wall_quality": "synced"})
        message = Outgoing("site-7.0b1c2d3e-1f.failover.customer@provider.example", *notice_of(notice), notice, at)
        store = await Store.open(self.folder / "state" / "store.db")
        await store.commit(records, outbox=[message], keep={"a note": TALK.encode()})
        await store.close()
        tools = self.folder / "tools"
        tools.mkdir()
        coded = base64.b64encode(f"\0site-7\0{MAIL_PASSWORD}".encode()).decode()
        (tools / "log").write_text(f"2026-11-25 03:30:23,123 WARNING x: {TALK} {ROUTER_PASSWORD} AUTH PLAIN {coded}\n")
        (tools / "journalctl").write_text(f"#!/bin/sh\ncat {tools}/log\n")
        (tools / "journalctl").chmod(0o755)

    async def run(self, *words: str, program: tuple[str, ...] = ("-m", "edgeagent"), limit_s: float = 30.0) -> str:
        """Everything a command says, on both streams; one that goes on is ended by the caller."""
        async with self.started(*words, program=program) as process:
            async with asyncio.timeout(limit_s):
                said, _ = await process.communicate()
        assert b"Traceback" not in said, said.decode()
        return said.decode()

    def started(self, *words: str, program: tuple[str, ...] = ("-m", "edgeagent")) -> Started:
        return Started([sys.executable, *program, "--site", str(self.site), *words], self.folder / "tools")


def notice_of(notice: Notify) -> tuple[str, str, str]:
    return notice.incident, notice.audience, notice.kind


class Started:
    """A process of the agent, ended with the block."""

    def __init__(self, command: list[str], tools: Path) -> None:
        self.command = command
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}

    async def __aenter__(self) -> asyncio.subprocess.Process:
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment,
        )
        return self.process

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


def planted(folder: Path, test: Callable[[Bed], Awaitable[None]]) -> None:
    async def go() -> None:
        context, pem, _ = certificate(folder, "mail.example")
        (folder / "mail.pem").write_text(pem)
        quoting = f"550 5.1.1 {TALK} pass {MAIL_PASSWORD}"
        smtp = Smtp(context, {"RCPT": quoting, "MAIL": quoting}, starttls=False)
        server = await asyncio.start_server(smtp.serve, "127.0.0.1", 0, ssl=context)
        rules = owners_router("7.22")
        rules["/user"][0]["password"] = ROUTER_PASSWORD
        async with server, rig(folder, initial=rules) as on:
            bed = Bed(folder, on, server.sockets[0].getsockname()[1])
            await bed.plant()
            await test(bed)

    run(go)


async def outputs_of_a_run(
    it: Bed, program: tuple[str, ...] = ("-m", "edgeagent"), enough: tuple[str, ...] = ()
) -> dict[str, str]:
    """Of an agent that meets a quoting router and a quoting mail server: its log, and what it says when asked."""
    it.on.strike("trap", "/ip/firewall/connection", message=f"{TALK} {ROUTER_PASSWORD}")
    it.on.strike("trap", "/ip/firewall/address-list", message=f"{TALK} {ROUTER_PASSWORD}")
    said = b""
    async with it.started("run", "--verbose", program=program) as process:
        assert process.stdout is not None
        async with asyncio.timeout(40.0):
            while not all(word.encode() in said for word in enough):
                said += await process.stdout.readline()
        asked = {" ".join(words): await it.run(*words) for words in (("status",), ("status", "--json"))}
        process.terminate()
        rest, _ = await process.communicate()
    it.on.router.misbehaviour.clear()
    return {"run": (said + rest).decode(), **asked}


def test_no_command_says_what_must_stay_clause_x4(tmp_path: Path) -> None:
    async def test(it: Bed) -> None:
        outputs = {}
        for words in (("check-config",), ("provision", "--plan")):
            outputs[" ".join(words)] = await it.run(*words)
        assert "nothing has been changed yet" in outputs["provision --plan"]
        it.on.strike("trap", "/ip/firewall", message=f"{TALK} {ROUTER_PASSWORD}")
        outputs["provision, refused"] = await it.run("provision", "--plan")
        it.on.router.misbehaviour.clear()
        outputs["provision, other router"] = await it.run("provision", "--apply")
        outputs |= await outputs_of_a_run(it, enough=("550", "/ip/firewall"))
        assert "voice on" in outputs["status"]
        for name, output in outputs.items():
            assert output.strip(), name
            assert canaries(output, leaves_the_site=False) == set(), f"{name}: {output}"

    planted(tmp_path, test)


def lying_status() -> dict[str, Any]:
    """What an agent would tell whose status had lost all restraint."""
    return {
        **DOCUMENT,
        "phase": TALK,
        "incident": f"call to {DIALLED}",
        "last_caller": CALLER,
        "paths": {TALK: {"verdict": TALK, "answered_ago_s": None, "address": FAR}},
        "faults": {"no_path": 1.0, CALLER: 2.0},
        "events": [{"kind": "notice", "data": {"to": OWNER, "password": ROUTER_PASSWORD, "dialled": 15550104477}}],
    }


async def bundled(it: Bed, output: Path, program: tuple[str, ...] = ("-m", "edgeagent")) -> dict[str, str]:
    socket = StatusSocket(it.socket, lying_status)
    await socket.open()
    try:
        said = await it.run("bundle", "--output", str(output), program=program)
    finally:
        await socket.close()
    return {**opened(output), "what it said": said}


def test_no_bundle_holds_what_must_stay_clauses_x4_p5(tmp_path: Path) -> None:
    async def test(it: Bed) -> None:
        files = await bundled(it, it.folder / "it.tar.gz")
        assert {"status.json", "config.json", "journal.jsonl", "facts.jsonl", "log.txt", "store.json"} <= files.keys()
        for name, content in files.items():
            assert canaries(content, leaves_the_site=name != "what it said") == set(), f"{name}: {content}"
        assert json.loads(files["status.json"])["calls"] == 1
        journal, facts = files["journal.jsonl"], json.loads(files["facts.jsonl"])
        assert '"primary"' in journal
        flow = facts["data"][0]["flows"][0]
        assert (flow["source"][:6], flow["far"][:4], flow["protocol"], flow["orig_bytes"]) == (
            "phone-",
            "far-",
            "udp",
            10**9,
        )
        assert flow["far"] in files["log.txt"], "one pseudonym for one address in the whole bundle"
        assert "2026-11-25 03:30:23,123 WARNING" in files["log.txt"]

    planted(tmp_path, test)


def test_no_bundle_of_a_broken_site_holds_what_must_stay_clause_x4(tmp_path: Path) -> None:
    async def test(it: Bed) -> None:
        it.site.write_text(it.site.read_text().replace("[router]", f'[router]\nuser = "{ROUTER_PASSWORD}'))
        files = await bundled(it, it.folder / "it.tar.gz")
        for name, content in files.items():
            assert canaries(content, leaves_the_site=name != "what it said") == set(), f"{name}: {content}"

    planted(tmp_path, test)


def test_with_the_redaction_switched_off_every_canary_is_seen(tmp_path: Path) -> None:
    """The control: the canaries were there to be told, and the search finds them."""

    async def test(it: Bed) -> None:
        off = ("-c", SWITCHED_OFF)
        files = await bundled(it, it.folder / "it.tar.gz", program=off)
        seen = {name: canaries(content, leaves_the_site=True) for name, content in files.items()}
        everything = {"router", "mail", "dialled", "caller", "owner", "site name", "far end", "phone"}
        assert seen["log.txt"] == everything
        assert seen["journal.jsonl"] == everything
        assert seen["status.json"] == everything - {"mail"}
        assert seen["facts.jsonl"] == {"far end", "phone"}
        assert {"owner", "site name"} <= seen["config.json"]
        log = (await outputs_of_a_run(it, program=off, enough=("550", "/ip/firewall", CALLER)))["run"]
        assert {"router", "dialled", "caller", "owner", "site name", "far end"} <= canaries(log, leaves_the_site=False)
        it.on.strike("trap", "/ip/firewall", message=f"{TALK} {ROUTER_PASSWORD}")
        refused = await it.run("provision", "--plan", program=off)
        assert {"router", "dialled", "caller", "owner", "site name"} <= canaries(refused, leaves_the_site=False)

    planted(tmp_path, test)


@pytest.mark.parametrize(
    "canary", [ROUTER_PASSWORD, json.dumps(MAIL_PASSWORD), SITE_KEY, "(555) 010-4477", CALLER.upper()]
)
def test_the_search_finds_each_alone(canary: str) -> None:
    assert canaries(f"a {canary} b", leaves_the_site=False)
    assert not canaries("site-7: voice on lte (away) for 12 s; 6 phones, 1 in a call", leaves_the_site=True)
