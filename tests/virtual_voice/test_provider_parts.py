from __future__ import annotations

import asyncio
import io
import json
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hil.virtual import addresses
from hil.virtual.provider_events import EventLog, LineTail
from hil.virtual.provider_media import bdecode, bencode
from hil.virtual.provider_programs import Program, ProgramError, is_alive, process_tree, wait_until
from hil.virtual.provider_sip import fill

from .conftest import GUARD_S, Voice


@pytest.mark.bench
def test_both_name_servers_answer(voice: Voice) -> None:
    isp = voice.provider.isp_names
    assert isp is not None
    for server in (voice.provider.names, isp):
        assert server.ask("sip.provider.example").endswith(socket.inet_aton(addresses.SBC))
        assert server.ask("mail.provider.example").endswith(socket.inet_aton(addresses.MAIL_SERVER))
        assert server.ask("nowhere.example.org")[3] & 0x0F == 3  # NXDOMAIN
    reply = voice.provider.names.ask("_sip._udp.sip.provider.example", 33)
    assert (5060).to_bytes(2, "big") in reply


@pytest.mark.bench
def test_names_can_be_asked_from_a_phone(voice: Voice) -> None:
    program = voice.phones["p1"].program
    with program.in_namespace(lambda: socket.create_connection((addresses.PROVIDER_DNS, 53), GUARD_S)) as client:
        assert client.getpeername() == (addresses.PROVIDER_DNS, 53)


def _spawn(role: str, argv: Sequence[str], log_name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL)


def test_stop_ends_the_whole_tree_even_when_it_ignores_sigterm(tmp_path: Path) -> None:
    async def story() -> None:
        program = Program("stubborn", _spawn, tmp_path)
        await program.start("prov", ["/bin/sh", "-c", "trap '' TERM; sleep 61.5 & sleep 61.5"])
        head = program.pid
        assert head is not None
        await wait_until(lambda: len(process_tree(head)) == 3, "the shell and both its children")
        tree = process_tree(head)
        await program.stop(grace_s=0.1)
        assert not program.running
        assert not any(is_alive(member) for member in tree)

    asyncio.run(story())


def test_a_program_that_cannot_start_is_named(tmp_path: Path) -> None:
    def spawn(role: str, argv: Sequence[str], log_name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/bin/false"])

    program = Program("broken", spawn, tmp_path)
    with pytest.raises(ProgramError, match="broken did not start: exit code 1"):
        asyncio.run(program.start("prov", ["true"]))
    asyncio.run(program.stop())


def test_events_are_lines_on_the_monotonic_clock() -> None:
    file = io.StringIO()
    log = EventLog(file)
    heard: list[dict[str, object]] = []
    stop = log.listen(heard.append)
    before = time.monotonic()
    log.add("kamailio", "registered", log.to_mono(time.time()), user="p1")
    after = time.monotonic()
    stop()
    log.add("bench", "unheard")
    clock, registered, _ = [json.loads(line) for line in file.getvalue().splitlines()]
    assert clock["event"] == "clock"
    assert before - 0.05 < registered["t"] < after + 0.05
    assert [event["event"] for event in heard] == ["registered"]


def test_a_tail_hands_over_whole_lines_only(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "log"
    tail = LineTail(path, lines.append)
    tail.read()
    path.write_text("one\ntw")
    tail.read()
    assert lines == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    tail.read()
    assert lines == ["one", "two"]


def test_bencoding_round_trip() -> None:
    value = {"command": "query", "list": ["a:b", 7, {"deep": -1}], "empty": ""}
    assert bdecode(bencode(value)) == value


def test_a_template_name_without_a_value_is_an_error() -> None:
    assert fill("a @NAME@ b", {"NAME": "x"}) == "a x b"
    with pytest.raises(KeyError):
        fill("@MISSING@", {})
