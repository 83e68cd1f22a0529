"""probes.dns: the wire by tables, forgers, dead and hanging resolvers, and a real name server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from edgeagent.probes import dns
from edgeagent.probes.dns import CNAME, SRV, A, Answer, BadMessage, decoded, encoded, labels
from edgeagent.probes.errors import NameUnknown, NameUnresolved
from tests.names import MISSING, free_port, name_server

SBC = labels("sbc.provider.example")
Reply = Callable[[bytes], list[bytes]]


def spelt(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels(name)) + b"\0"


def record(owner: bytes, kind: int, data: bytes, ttl_s: int = 60, network: int = 1) -> bytes:
    return owner + struct.pack(">2HIH", kind, network, ttl_s, len(data)) + data


def response(question: bytes, *records: bytes, flags: int = 0x8180, count: int | None = None) -> bytes:
    """To ``question``, echoed."""
    number, _, asked = struct.unpack_from(">3H", question)
    head = struct.pack(">6H", number, flags, asked, len(records) if count is None else count, 0, 0)
    return head + question[12:] + b"".join(records)


QUESTION = encoded(7, SBC, A)
OWN = b"\xc0\x0c"  # a pointer to the question's name
ADDRESS = record(OWN, A, b"\xcb\0\x71\x0a")


def test_a_question_is_what_rfc_1035_says() -> None:
    wanted = b"\0\7\1\0\0\1\0\0\0\0\0\0\3sbc\10provider\7example\0\0\1\0\1"
    assert encoded(7, labels("SBC.provider.example"), A) == wanted
    assert dns.decoded_question(wanted) == (7, (SBC, A))


def test_an_answer_is_read_with_aliases_and_compressed_names() -> None:
    alias = record(OWN, CNAME, b"\2lb\xc0\x10", 300)  # lb.provider.example
    behind = record(b"\2lb\xc0\x10", A, b"\xcb\0\x71\x0b", 30)
    other = record(b"\5other\0", A, b"\1\2\3\4")
    unknown = record(OWN, 16, b"\3abc")
    message = decoded(response(QUESTION, alias, behind, other, unknown, ADDRESS))
    assert (message.number, message.code, message.truncated, message.question) == (7, 0, False, (SBC, A))
    assert len(message.entries) == 4
    assert dns.chased(message, SBC) == Answer(("203.0.113.10", "203.0.113.11"), 30)


@pytest.mark.parametrize(("ttl_s", "taken_s"), [(0, 0), (2**31 - 1, dns.TTL_MAX_S), (2**31, 0), (2**32 - 1, 0)])
def test_a_time_to_live_is_bounded(ttl_s: int, taken_s: int) -> None:
    message = decoded(response(QUESTION, record(OWN, A, b"\xcb\0\x71\x0a", ttl_s)))
    assert dns.chased(message, SBC).ttl_s == taken_s


def test_aliases_in_a_circle_end() -> None:
    circle = (record(spelt("a.b"), CNAME, spelt("c.d")), record(spelt("c.d"), CNAME, spelt("a.b")))
    with pytest.raises(NameUnknown):
        dns.chased(decoded(response(encoded(1, labels("a.b"), A), *circle)), labels("a.b"))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        QUESTION,  # no response
        *(response(QUESTION, ADDRESS)[:length] for length in (5, 11, 12, 20, 33, 36, 38, 45, 50, 53)),
        response(QUESTION, ADDRESS, flags=0x8980),  # to a status request
        response(QUESTION, ADDRESS, count=2),
        response(QUESTION, *[ADDRESS] * (dns.RECORDS_MAX + 1)),
        response(QUESTION, record(OWN, A, b"\1\2\3")),
        response(QUESTION, record(OWN, A, b"\1\2\3\4\5")),
        response(QUESTION, record(OWN, CNAME, b"\1a\0\0")),
        response(QUESTION, record(OWN, CNAME, b"\1a")),
        response(QUESTION, record(OWN, SRV, b"\0\1\0")),
        response(QUESTION, record(b"\xc0\x26", A, b"\1\2\3\4")),  # points at itself
        response(QUESTION, record(b"\1a\xc0\x26", A, b"\1\2\3\4")),  # to where this name begins
        response(QUESTION, record(b"\xc0\xff", A, b"\1\2\3\4")),  # forward
        response(QUESTION, record(b"\x41a\0", A, b"\1\2\3\4")),  # an unknown kind of label
        response(QUESTION, record(b"\x3f" + b"a" * 10, A, b"")),
        response(QUESTION, record((b"\x3f" + b"a" * 63) * 4 + b"\0", A, b"\1\2\3\4")),  # 257 bytes
        struct.pack(">6H", 7, 0x8180, 0, 0, 0, 0),
        struct.pack(">6H", 7, 0x8180, 2, 0, 0, 0) + QUESTION[12:] * 2,
        response(QUESTION)[:-1] + b"\3",  # class CHAOS
    ],
)
def test_what_is_no_response_is_refused(packet: bytes) -> None:
    with pytest.raises(BadMessage):
        decoded(packet)
    assert decoded(response(QUESTION, ADDRESS))  # the control


def test_a_class_that_is_not_the_internet_is_passed_over() -> None:
    assert decoded(response(QUESTION, record(OWN, A, b"\1\2\3\4", network=3))).entries == ()


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, ".".join(["a" * 60] * 5)])
def test_what_is_no_host_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        labels(name)


def test_a_strangers_name_stays_on_one_line() -> None:
    assert dns.text((b"a\nb", b"\xff\x1b" * 60)).isprintable()


# -- resolvers of our own, that misbehave --


class Resolver(asyncio.DatagramProtocol):
    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.heard: list[tuple[bytes, tuple[str, int]]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.append((data, addr))
        for one in self.reply(data):
            self.transport.sendto(one, addr)


@contextlib.asynccontextmanager
async def resolver(address: str, port: int, reply: Reply) -> AsyncIterator[Resolver]:
    make: Callable[[], Resolver] = lambda: Resolver(reply)  # noqa: E731
    transport, served = await asyncio.get_running_loop().create_datagram_endpoint(make, local_addr=(address, port))
    try:
        yield served
    finally:
        transport.close()


def one_address(question: bytes) -> list[bytes]:
    """No SRV, and one address for whatever name."""
    kind = dns.decoded_question(question)[1][1]
    return [response(question, *([ADDRESS] if kind == A else []))]


def asked(port: int, *resolvers: str, name: str = "sbc.provider.example") -> Awaitable[Answer]:
    return dns.addresses(name, "127.0.0.2", resolvers, secrets.token_hex, port)


def test_questions_leave_from_the_source_each_with_a_number_and_a_port_of_its_own() -> None:
    async def test() -> None:
        port = free_port()
        async with resolver("127.0.0.1", port, one_address) as served:
            for _ in range(10):
                assert await asked(port, "127.0.0.1") == Answer(("203.0.113.10",), 60)
        assert {addr[0] for _, addr in served.heard} == {"127.0.0.2"}
        assert len({addr[1] for _, addr in served.heard}) > 10
        assert len({data[:2] for data, _ in served.heard}) > 15

    asyncio.run(test())


def forged(question: bytes) -> list[bytes]:
    """Everything that is not the answer, then the answer."""
    evil = record(OWN, A, b"\6\6\6\6")
    number, (name, kind) = dns.decoded_question(question)
    wrong = [encoded(number ^ 1, name, kind), encoded(number, (*name[:-1], b"other"), kind), encoded(number, name, 28)]
    return [b"", b"\0" * 12, question, *(response(one, evil) for one in wrong), *one_address(question)]


def test_forged_answers_are_passed_over() -> None:
    async def test() -> None:
        port = free_port()
        async with resolver("127.0.0.1", port, forged):
            assert (await asked(port, "127.0.0.1")).addresses == ("203.0.113.10",)

    asyncio.run(test())


def test_an_answer_from_another_address_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "ASK_S", 0.2)

    async def test() -> None:
        port = free_port()
        async with resolver("127.0.0.3", port, lambda _: []) as other:

            def elsewhere(question: bytes) -> list[bytes]:
                other.transport.sendto(one_address(question)[0], served.heard[-1][1])
                return []

            async with resolver("127.0.0.1", port, elsewhere) as served:
                with pytest.raises(NameUnresolved, match="does not answer"):
                    await asked(port, "127.0.0.1")
                assert len(served.heard) == dns.TRIES
                served.reply = one_address  # the control
                assert await asked(port, "127.0.0.1")

    asyncio.run(test())


def refusing(question: bytes) -> list[bytes]:
    return [response(question, flags=0x8185)]


@pytest.mark.parametrize("bad", [lambda _: [], refusing, lambda _: [b"\0"]])
def test_a_resolver_that_is_dead_or_refuses_is_no_matter_where_another_answers(
    bad: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "ASK_S", 0.2)

    async def test() -> None:
        port = free_port()
        async with resolver("127.0.0.1", port, bad), resolver("127.0.0.3", port, one_address):
            assert (await asked(port, "127.0.0.1", "127.0.0.3")).addresses == ("203.0.113.10",)
            with pytest.raises(NameUnresolved):
                await asked(port, "127.0.0.1")

    asyncio.run(test())


def test_a_source_that_this_machine_does_not_have_is_told() -> None:
    with pytest.raises(NameUnresolved, match="is the alias address set"):
        asyncio.run(dns.addresses("sbc.provider.example", "192.0.2.77", ["127.0.0.1"], secrets.token_hex, 53))


# -- the real one --

NAME = "provider.example"
RECORDS = [
    "--host-record=sbc1.provider.example,203.0.113.11",
    "--host-record=sbc2.provider.example,203.0.113.12",
    "--host-record=plain.provider.example,203.0.113.13",
    "--cname=alias.provider.example,plain.provider.example",
    "--srv-host=_sip._udp.provider.example,sbc2.provider.example,5060,20,1",
    "--srv-host=_sip._udp.provider.example,sbc1.provider.example,5060,10,1",
    "--srv-host=_sip._udp.half.provider.example,gone.provider.example,5060,10,1",
    "--srv-host=_sip._udp.half.provider.example,sbc1.provider.example,5060,20,1",
    "--srv-host=_sip._udp.none.provider.example",
    "--host-record=none.provider.example,203.0.113.14",
    *(f"--host-record=many.provider.example,203.0.113.{last}" for last in range(1, 61)),
]


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[int]:
    if MISSING:
        pytest.skip("dnsmasq is not installed")
    port = free_port()
    with name_server("127.0.0.1", port, RECORDS):
        yield port


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("provider.example", ("203.0.113.11", "203.0.113.12")),  # by SRV, the better priority first
        ("plain.provider.example", ("203.0.113.13",)),
        ("PLAIN.provider.example", ("203.0.113.13",)),
        ("alias.provider.example", ("203.0.113.13",)),
        ("half.provider.example", ("203.0.113.11",)),  # one of two servers has no address
    ],
)
def test_a_real_name_server_is_understood(name: str, wanted: tuple[str, ...], dnsmasq: int) -> None:
    assert asyncio.run(dns.addresses(name, "127.0.0.2", ["127.0.0.1"], secrets.token_hex, dnsmasq)) == Answer(
        wanted, 60
    )


@pytest.mark.parametrize(
    ("name", "why"), [("nobody.example", "knows no such name"), ("none.provider.example", "no SIP server")]
)
def test_a_real_name_server_that_knows_none_is_believed(name: str, why: str, dnsmasq: int) -> None:
    with pytest.raises(NameUnknown, match=why):
        asyncio.run(dns.addresses(name, "127.0.0.2", ["127.0.0.1"], secrets.token_hex, dnsmasq))


def test_an_answer_too_long_for_a_datagram_comes_over_tcp(dnsmasq: int) -> None:
    found = asyncio.run(dns.addresses("many.provider.example", "127.0.0.2", ["127.0.0.1"], secrets.token_hex, dnsmasq))
    assert len(found.addresses) == dns.ADDRESSES_MAX
