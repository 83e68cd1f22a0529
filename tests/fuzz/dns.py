"""Mutated DNS answers: each is a message or is refused, in bounded time and size (clause X3).

``python -m tests.fuzz.dns --cases N --seed S [--first N]``. A packet that breaks the rule is printed with its number.
"""

from __future__ import annotations

import argparse
import random
import signal
import struct
import sys
from collections.abc import Callable
from types import FrameType

from edgeagent.probes import dns
from edgeagent.probes.dns import CNAME, SRV, A, BadMessage, Name, decoded, encoded, labels
from edgeagent.probes.errors import NameUnknown

CPU_LIMIT_S = 0.5
NAME_MAX = 255
NAMES = tuple(labels(name) for name in ("sbc.provider.example", "_sip._udp.provider.example", "a.b"))
Judge = Callable[[bytes], bool]


class BrokenRule(Exception):
    """What must never happen."""


class TooSlow(BaseException):
    """No ``except Exception`` may catch it."""


def good(rng: random.Random) -> bytes:
    """A response as name servers send them, with pointers wherever there may be some."""
    question = encoded(rng.randrange(65536), rng.choice(NAMES), rng.choice((A, SRV)))
    packet = bytearray(question)
    count = rng.choice((0, 1, 1, 2, 5, 30))
    struct.pack_into(">4H", packet, 2, rng.choice((0x8180, 0x8180, 0x8183, 0x8380)), 1, count, 0)
    for _ in range(count):
        kind = rng.choice((A, A, CNAME, SRV, 28))
        data = {A: rng.randbytes(4), CNAME: _name(rng, len(packet)), SRV: rng.randbytes(6) + _name(rng, len(packet))}
        packet += _name(rng, len(packet))
        body = data.get(kind, rng.randbytes(16))
        packet += struct.pack(">2HIH", kind, 1, rng.choice((0, 60, 2**31, 2**32 - 1)), len(body)) + body
    return bytes(packet)


def _name(rng: random.Random, size: int) -> bytes:
    pointer = struct.pack(">H", 0xC000 | rng.choice((12, rng.randrange(12, max(13, size)), rng.randrange(0x4000))))
    label = bytes([3]) + rng.choice((b"sbc", b"SBC", b"\0.\n"))
    return rng.choice((pointer, label + pointer, label * rng.choice((1, 5, 70)) + b"\0", b"\0"))


def mutated(seed: int, number: int) -> bytes:
    """One packet: the same for the same seed and number."""
    rng = random.Random(f"{seed}/{number}")
    packet = bytearray(good(rng))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        at = rng.randrange(len(packet) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            packet[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del packet[at : at + rng.choice((1, 2, 10, 1000))]
        elif kind == 2:
            packet[at:at] = packet[at : at + rng.choice((1, 12, 100))] * rng.choice((1, 3))
        elif kind == 3:
            packet[at : at + 2] = struct.pack(">H", rng.choice((0, 0xC000 | at % 0x4000, 0xC00C, 0xFFFF, 0x3F3F)))
        elif kind == 4:
            packet[at:at] = b"\xc0\x0c" * rng.choice((1, 2, 1000))
        else:
            packet[4:8] = struct.pack(">2H", rng.choice((0, 1, 2, 65535)), rng.choice((0, 1, 64, 65, 65535)))
    return bytes(packet[:65535])


def judge(packet: bytes) -> bool:
    """Whether it is a message; raises BrokenRule."""
    try:
        _limited(lambda: _judge(packet))
    except BadMessage:
        return False
    except TooSlow:
        raise BrokenRule(f"more than {CPU_LIMIT_S} s of processor time") from None
    except BrokenRule:
        raise
    except Exception as error:
        raise BrokenRule(f"{type(error).__name__}: {str(error)[:200]}") from error
    return True


def _judge(packet: bytes) -> None:
    message = decoded(packet)
    name, _ = message.question
    names = [name, *(entry.name for entry in message.entries)]
    names += [entry.data for entry in message.entries if isinstance(entry.data, tuple)]
    if len(message.entries) > dns.RECORDS_MAX or not all(map(_sound, names)):
        raise BrokenRule("a message beyond its bounds")
    try:
        found = dns.chased(message, name)
    except NameUnknown as error:
        if not str(error).isprintable() or len(str(error)) > 600:
            raise BrokenRule("an error that is not one short line") from error
        return
    if not 0 < len(found.addresses) <= dns.ADDRESSES_MAX or not 0 <= found.ttl_s <= dns.TTL_MAX_S:
        raise BrokenRule("an answer beyond its bounds")


def _sound(name: Name) -> bool:
    return sum(len(label) + 1 for label in name) + 1 <= NAME_MAX and all(0 < len(label) < 64 for label in name)


def _limited(work: Callable[[], None]) -> None:
    """Processor time, so that a busy machine makes no difference."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT_S)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def run(cases: int, seed: int, first: int = 0) -> tuple[int, list[tuple[int, str]]]:
    """How many packets were messages, and those that broke a rule: number, why."""
    messages, failures = 0, []
    for number in range(first, first + cases):
        try:
            messages += judge(mutated(seed, number))
        except BrokenRule as broken:
            failures.append((number, str(broken)))
    return messages, failures


def main() -> int:
    """Many packets of one seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first packet")
    options = parser.parse_args()
    messages, failures = run(options.cases, options.seed, options.first)
    for number, why in failures[:20]:
        sys.stdout.write(f"--- seed {options.seed}, --first {number}: {why}\n")
    sys.stdout.write(f"names: {options.cases} mutated answers, {messages} messages, {len(failures)} rules broken\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
