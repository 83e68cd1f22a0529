"""Names, asked of the site's resolvers from one source address, so by one path (RFC 1035; SRV: RFC 2782).

An answer counts only if it came from the resolver that was asked, to the port that the system chose at random for this
question alone, with its random number and its very question: whoever forges one has to guess all of it (RFC 5452).
What a resolver leaves out is not asked for elsewhere: it is to follow aliases (CNAME) itself, as every full one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import Callable, Sequence

from msgspec import Struct

from edgeagent.probes.datagram import BoundSocket, Peer
from edgeagent.probes.errors import NameUnknown, NameUnresolved

PORT = 53
A, CNAME, SRV = 1, 5, 33
SIP_SERVICE = "_sip._udp"
ASK_S = 2.0  # until the next resolver is asked
TRIES = 2  # of each: one packet may be lost
TARGETS_MAX = 4  # servers that an SRV answer may name; those of the best priority come first
ADDRESSES_MAX = 16
RECORDS_MAX = 64
ALIASES_MAX = 8
TTL_MAX_S = 7 * 86400  # RFC 8767 section 4 advises so

_IN = 1
_NO_ERROR, _NO_SUCH_NAME = 0, 3
_TRUNCATED, _RESPONSE, _WANTED = 0x0200, 0x8000, 0x0100
_MAX_BYTES = 4096  # of a datagram; more than RFC 1035 allows without being asked

Name = tuple[bytes, ...]  # labels in small letters, without the root's empty one


class Answer(Struct, frozen=True):
    """``addresses``: the best first, never empty. ``ttl_s``: how long the zone's owner vouches for them."""

    addresses: tuple[str, ...]
    ttl_s: int


class Service(Struct, frozen=True):
    """One SRV record; ``target`` () says that there is no such service."""

    priority: int
    weight: int
    port: int
    target: Name


class Entry(Struct, frozen=True):
    """A record of an answer: an address, the name that ``name`` is an alias of, or a service."""

    name: Name
    ttl_s: int
    data: str | Name | Service


class Message(Struct, frozen=True):
    """A response, as far as it matters here. ``code``: RCODE. ``entries``: A, CNAME and SRV of its answer section."""

    number: int
    code: int
    truncated: bool
    question: tuple[Name, int]
    entries: tuple[Entry, ...]


class BadMessage(ValueError):
    """Not a response that can be read."""


async def addresses(name: str, source: str, resolvers: Sequence[str], token: Callable[[int], str], port: int) -> Answer:
    """The addresses of the SIP servers of ``name``: those that SRV names, or else its own.

    Raises NameUnresolved; NameUnknown where a resolver answered that there are none.
    """
    asking = _Asking(source, resolvers, token, port)
    services = await _services(asking, name)
    found: list[str] = []
    ttl_s = TTL_MAX_S
    unknown: NameUnknown | None = None
    for target, srv_ttl_s in services[:TARGETS_MAX]:
        try:
            answer = chased(await asking.message(target, A), target)
        except NameUnknown as error:
            unknown = error
            continue
        found += [address for address in answer.addresses if address not in found]
        ttl_s = min(ttl_s, srv_ttl_s, answer.ttl_s)
    if not found:
        raise unknown or NameUnknown(f"{name}: no server of it has an address")
    return Answer(tuple(found[:ADDRESSES_MAX]), ttl_s)


async def _services(asking: _Asking, name: str) -> list[tuple[Name, int]]:
    """The names to ask addresses of, best first, and how long they hold; ``name`` itself where SRV names none."""
    own, service = labels(name), labels(f"{SIP_SERVICE}.{name}")
    try:
        message = await asking.message(service, SRV)
    except NameUnknown:
        return [(own, TTL_MAX_S)]
    owners = {owner for owner, _ in _aliases(message, service)}
    found = [(entry.data, entry.ttl_s) for entry in message.entries if entry.name in owners]
    services = [(data, ttl_s) for data, ttl_s in found if isinstance(data, Service)]
    services.sort(key=lambda one: (one[0].priority, -one[0].weight))
    if services and all(not data.target for data, _ in services):
        raise NameUnknown(f"{name}: its owner says that it has no SIP server for UDP")
    return [(data.target, ttl_s) for data, ttl_s in services if data.target] or [(own, TTL_MAX_S)]


def chased(message: Message, name: Name) -> Answer:
    """The addresses of ``name`` in an answer, its aliases followed; raises NameUnknown where there are none."""
    found: list[str] = []
    ttl_s = TTL_MAX_S
    for owner, alias_ttl_s in _aliases(message, name):
        ttl_s = min(ttl_s, alias_ttl_s)
        for entry in message.entries:
            if entry.name == owner and isinstance(entry.data, str) and entry.data not in found:
                found.append(entry.data)
                ttl_s = min(ttl_s, entry.ttl_s)
    if not found:
        raise NameUnknown(f"{text(name)}: it has no address")
    return Answer(tuple(found[:ADDRESSES_MAX]), ttl_s)


def _aliases(message: Message, name: Name) -> list[tuple[Name, int]]:
    """``name`` and what it is an alias of, each with how long that holds."""
    found = [(name, TTL_MAX_S)]
    for _ in range(ALIASES_MAX):
        owner = found[-1][0]
        ends = [(one.data, one.ttl_s) for one in message.entries if one.name == owner and isinstance(one.data, tuple)]
        if not ends or ends[0][0] in [known for known, _ in found]:
            break
        found.append(ends[0])
    return found


class _Asking:
    """The resolvers as seen from one source address."""

    def __init__(self, source: str, resolvers: Sequence[str], token: Callable[[int], str], port: int) -> None:
        self.source = source
        self.servers = [(str(ipaddress.IPv4Address(resolver)), port) for resolver in resolvers]
        self.token = token

    async def message(self, name: Name, kind: int) -> Message:
        """The first good answer; raises NameUnknown where one says that there is no such name, NameUnresolved."""
        why = "no resolver is known"
        for server in self.servers * TRIES:
            try:
                async with asyncio.timeout(ASK_S):
                    found = await self._ask(server, name, kind)
            except TimeoutError:
                why = f"{server[0]} does not answer {self.source}"
            except (OSError, BadMessage) as error:
                why = f"{server[0]}: {error}"
            else:
                if found.code == _NO_SUCH_NAME:
                    raise NameUnknown(f"{text(name)}: {server[0]} knows no such name")
                if found.code == _NO_ERROR:
                    return found
                why = f"{server[0]} refuses to say (code {found.code})"
        raise NameUnresolved(f"{text(name)}: {why}")

    async def _ask(self, server: Peer, name: Name, kind: int) -> Message:
        number = int(self.token(2), 16)
        question = encoded(number, name, kind)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def take(packet: bytes, sender: Peer) -> None:
            if sender == server and not answer.done():
                with contextlib.suppress(BadMessage):  # whatever that was, the answer may still come
                    found = decoded(packet)
                    if (found.number, found.question) == (number, (name, kind)):
                        answer.set_result(found)

        bound = BoundSocket(self.source, 0, _MAX_BYTES, take)
        bound.open()
        try:
            bound.send(question, server)
            found = await answer
        finally:
            bound.close()
        return await self._ask_whole(server, question) if found.truncated else found

    async def _ask_whole(self, server: Peer, question: bytes) -> Message:
        """Over TCP, for an answer too long for a datagram."""
        reader, writer = await asyncio.open_connection(*server, local_addr=(self.source, 0))
        try:
            writer.write(struct.pack(">H", len(question)) + question)
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            found = decoded(await reader.readexactly(length))
        except asyncio.IncompleteReadError as error:
            raise BadMessage("the connection ended within the answer") from error
        finally:
            writer.close()
        asked = decoded_question(question)
        if (found.number, found.question, found.truncated) != (*asked, False):
            raise BadMessage("the answer is to another question, or cut off")
        return found


# -- below: the wire, no I/O --


def labels(name: str) -> Name:
    """A host name as DNS has it; raises ValueError for one that it cannot have."""
    found = tuple(label.encode("ascii").lower() for label in name.split("."))
    if not all(0 < len(label) < 64 for label in found) or sum(len(label) + 1 for label in found) > 254:
        raise ValueError(f"{name!r} is no host name")
    return found


def text(name: Name) -> str:
    """For a message to a person; whatever a stranger put into it stays on one short line."""
    return b".".join(name).decode("ascii", "backslashreplace")[:100].encode("unicode_escape").decode()


def encoded(number: int, name: Name, kind: int) -> bytes:
    """A question that asks the resolver to do the whole work."""
    spelt = b"".join(bytes([len(label)]) + label for label in name)
    return struct.pack(">6H", number, _WANTED, 1, 0, 0, 0) + spelt + b"\0" + struct.pack(">2H", kind, _IN)


def decoded_question(packet: bytes) -> tuple[int, tuple[Name, int]]:
    """Number and question of a message; raises BadMessage."""
    number, _, questions = _unpacked(">3H", packet, 0)
    if questions != 1:
        raise BadMessage(f"{questions} questions")
    name, at = _name(packet, 12)
    kind, network = _unpacked(">2H", packet, at)
    if network != _IN:
        raise BadMessage(f"class {network}")
    return number, (name, kind)


def decoded(packet: bytes) -> Message:
    """A response; raises BadMessage for whatever is none."""
    number, question = decoded_question(packet)
    _, flags, _, answers = _unpacked(">4H", packet, 0)
    if not flags & _RESPONSE or flags & 0x7800:  # an inquiry, or the answer to something other than a query
        raise BadMessage("no response to a query")
    at = _name(packet, 12)[1] + 4
    truncated = bool(flags & _TRUNCATED)
    entries: list[Entry] = []
    if not truncated:  # else it is asked for again, and may end anywhere
        if answers > RECORDS_MAX:
            raise BadMessage(f"{answers} records")
        for _ in range(answers):
            at, entry = _entry(packet, at)
            entries += [] if entry is None else [entry]
    return Message(number, flags & 0xF, truncated, question, tuple(entries))


def _entry(packet: bytes, at: int) -> tuple[int, Entry | None]:
    """Where the next record begins, and this one; None where its kind does not matter here."""
    name, at = _name(packet, at)
    kind, network, ttl_s, length = _unpacked(">2HIH", packet, at)
    begin, end = at + 10, at + 10 + length
    if end > len(packet):
        raise BadMessage("a record is cut off")
    data: str | Name | Service
    if network != _IN or kind not in (A, CNAME, SRV):
        return end, None
    if kind == A:
        if length != 4:
            raise BadMessage(f"an address of {length} bytes")
        data, stop = str(ipaddress.IPv4Address(packet[begin:end])), end
    elif kind == CNAME:
        data, stop = _name(packet, begin)
    else:
        priority, weight, port = _unpacked(">3H", packet, begin)
        target, stop = _name(packet, begin + 6)
        data = Service(priority, weight, port, target)
    if stop != end:
        raise BadMessage("a record is not as long as it says")
    return end, Entry(name, 0 if ttl_s >> 31 else min(ttl_s, TTL_MAX_S), data)  # RFC 2181 section 8


def _name(packet: bytes, at: int) -> tuple[Name, int]:
    """The name that begins at ``at``, and where what follows it begins.

    A pointer must point to before all that was read of this name, so that no packet makes this loop.
    """
    found: list[bytes] = []
    size, first, after = 1, at, None
    while True:
        if at >= len(packet):
            raise BadMessage("a name is cut off")
        length = packet[at]
        if length >= 0xC0:
            (pointer,) = _unpacked(">H", packet, at)
            after = at + 2 if after is None else after
            at = pointer & 0x3FFF
            if at >= first:
                raise BadMessage("a name points forward")
            first = at
        elif length > 63:
            raise BadMessage("an unknown kind of label")
        elif length == 0:
            return tuple(found), at + 1 if after is None else after
        else:
            label = packet[at + 1 : at + 1 + length]
            size += length + 1
            if len(label) < length or size > 255:
                raise BadMessage("a name is cut off, or too long")
            found.append(label.lower())
            at += length + 1


def _unpacked(form: str, packet: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, packet, at)
    except struct.error:
        raise BadMessage("it is cut off") from None
