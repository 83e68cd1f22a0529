"""probes.sip against a local UDP server that answers as RFC 3261 says: with our Via, CSeq and Call-ID."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgeagent.probes import sip
from edgeagent.probes.errors import ProbeNotSent, ProbeUnavailable
from edgeagent.probes.sip import MAX_REQUEST_BYTES, SipProber

Answers = list[tuple[int, int, float, float]]


class Server(asyncio.DatagramProtocol):
    def __init__(self, reply: Callable[[bytes], list[bytes]]) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.senders: list[tuple[str, int]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.requests.append(data)
        self.senders.append(addr)
        for one in self.reply(data):
            self.transport.sendto(one, addr)


def answer(request: bytes, status: bytes = b"200 OK", via: bytes = b"Via") -> bytes:
    found = {name: re.search(rb"\r\n" + name + rb": ([^\r]*)", request) for name in (b"Via", b"CSeq", b"Call-ID")}
    lines = [b"SIP/2.0 " + status]
    for name, line in found.items():
        assert line is not None
        lines.append((via if name == b"Via" else name) + b": " + line[1])
    return b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])


def talk(reply: Callable[[bytes], list[bytes]], probes: int = 1) -> tuple[Answers, Server]:
    answers: Answers = []

    async def go() -> Server:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(lambda: Server(reply), local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        prober = SipProber(
            "127.0.0.2", "127.0.0.1", port, lambda *a: answers.append(a), now=time.monotonic, token=secrets.token_hex
        )
        prober.open()
        for number in range(1, probes + 1):
            assert prober.send() == number
        while len(server.requests) < probes:  # noqa: ASYNC110  the server answers as soon as it is asked
            await asyncio.sleep(0.001)
        for _ in range(20):  # the answers are there: so many turns, and they have been taken
            await asyncio.sleep(0.001)
        prober.close()
        transport.close()
        await asyncio.sleep(0)
        return server

    return answers, asyncio.run(go())


def test_each_request_stands_alone_and_is_small() -> None:
    begun_s = time.monotonic()
    answers, server = talk(lambda request: [answer(request)], probes=2)
    assert [(cseq, status) for cseq, status, *_ in answers] == [(1, 200), (2, 200)]
    assert all(begun_s <= sent <= received <= time.monotonic() for *_, sent, received in answers)
    assert {sender[0] for sender in server.senders} == {"127.0.0.2"}
    first, second = server.requests
    for pattern in (rb"branch=(z9hG4bK\w{16});rport\r\n", rb"From: .*;tag=(\w+)\r\n", rb"Call-ID: (\w+)\r\n"):
        ours = [re.search(pattern, request) for request in (first, second)]
        assert ours[0] is not None
        assert ours[1] is not None
        assert ours[0][1] != ours[1][1]
    assert b"\r\nMax-Forwards: 70\r\n" in first
    assert b"\r\nUser-Agent: edgeagent\r\n" in first
    assert re.search(rb"\r\nContact: <sip:127\.0\.0\.2:\d+>\r\n", first)
    assert first.endswith(b"Content-Length: 0\r\n\r\n")


def test_the_longest_request_is_within_400_bytes() -> None:
    longest = SipProber("255.255.255.255", "255.255.255.255", 65535, print, now=time.monotonic, token=secrets.token_hex)
    longest._cseq = 2**31 - 1
    assert len(longest._request("0" * 16, 65535)) <= MAX_REQUEST_BYTES
    with pytest.raises(ValueError, match="domain"):
        SipProber("127.0.0.1", "127.0.0.1", 1, print, now=time.monotonic, token=secrets.token_hex, domain="x\r\ny")


def test_any_answer_counts_once_with_its_status() -> None:
    answers, _ = talk(lambda r: [answer(r, b"100 Trying", b"v"), answer(r, b"483 Too Many Hops"), answer(r, b"200 OK")])
    assert [status for _, status, *_ in answers] == [100, 483]


def test_what_is_not_an_answer_to_us_is_ignored() -> None:
    def odd(request: bytes) -> list[bytes]:
        good = answer(request)
        return [
            b"",
            b"\xff" * 500,
            request,
            good.replace(b"z9hG4bK", b"z9hG4bK0"),
            re.sub(rb"branch=\S{23}", b"branch=z9hG4bK0123456789abcdef", good),
            good.replace(b"SIP/2.0 200", b"SIP/2.0 20"),
        ]

    answers, server = talk(odd)
    assert answers == []
    assert len(server.requests) == 1  # no retransmission


def test_not_sent_is_told_apart_from_lost() -> None:
    async def go() -> None:
        with pytest.raises(ProbeUnavailable, match="alias"):
            SipProber("192.0.2.77", "127.0.0.1", 1, print, now=time.monotonic, token=secrets.token_hex).open()
        prober = SipProber("127.0.0.2", "127.0.0.1", 1, print, now=time.monotonic, token=secrets.token_hex)
        with pytest.raises(ProbeNotSent) as caught:
            prober.send()
        assert caught.value.reason == "closed"
        prober.open()
        for _ in range(sip.MAX_WAITING):  # port 1 answers "unreachable" by ICMP: lost, not an error
            prober.send()
        await asyncio.sleep(0.01)
        with pytest.raises(ProbeNotSent) as caught:
            prober.send()
        assert caught.value.reason == "crowded"
        prober.close()

    asyncio.run(go())
