"""probes.icmp against the kernel's own answers on 127.0.0.1."""

import asyncio
import ctypes
import errno
import fcntl
import os
import re
import secrets
import socket
import struct
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgeagent.probes import icmp
from edgeagent.probes.errors import ProbeForbidden, ProbeNotSent, ProbeUnavailable
from edgeagent.probes.icmp import IcmpProber

Answers = list[tuple[str, int, float, float]]


def _may_ping() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return False
    return True


def _enter_own_network() -> None:
    """Give the calling thread a network of its own where everybody may ping (each new one starts with nobody)."""
    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        siocsifflags, iff_up = 0x8914, 1
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh14x", b"lo", iff_up))
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")


def on_wire(test: Coroutine[Any, Any, None]) -> None:
    """Run where ping sockets are allowed: here, or (as root) in a thread with a network of its own, else skip."""
    if _may_ping():
        return asyncio.run(test)
    if os.geteuid() != 0:
        test.close()
        pytest.skip("this user may not open ping sockets (net.ipv4.ping_group_range) and is not root")

    def inside() -> None:
        _enter_own_network()
        asyncio.run(test)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(inside).result()


def prober(answers: Answers, source: str = "127.0.0.2") -> IcmpProber:
    return IcmpProber(source, lambda *a: answers.append(a), now=time.monotonic, token=secrets.token_hex)


def test_answers_come_with_target_whole_number_and_times() -> None:
    answers: Answers = []
    begun_s = time.monotonic()

    async def test() -> None:
        one = prober(answers)
        one.open()
        for seq in (1, 2, 70_000):
            assert one.send("127.0.0.1", seq) <= time.monotonic()
            one.send("127.0.0.3", seq)
        async with asyncio.timeout(30):
            while one.waiting:  # noqa: ASYNC110  what must come
                await asyncio.sleep(0.01)
        one.close()
        with pytest.raises(ProbeNotSent) as caught:
            one.send("127.0.0.1", 3)
        assert caught.value.reason == "closed"

    on_wire(test())
    assert sorted(a[:2] for a in answers) == [(t, s) for t in ("127.0.0.1", "127.0.0.3") for s in (1, 2, 70_000)]
    assert all(begun_s <= sent <= received <= time.monotonic() for _, _, sent, received in answers)


def test_only_the_true_answer_counts_and_only_once() -> None:
    answers: Answers = []

    async def test() -> None:
        one = prober(answers)
        one.open()
        one.send("127.0.0.9", 5)
        nonce = next(iter(one._waiting._waiting))

        def packet(kind: int = 0, code: int = 0, seq: int = 5, n: bytes = nonce) -> bytes:
            return icmp._HEADER.pack(kind, code, 0, 0, seq, n)

        for forged, sender in (
            (packet(n=b"12345678"), "127.0.0.9"),
            (packet(), "127.0.0.8"),
            (packet(seq=6), "127.0.0.9"),
            (packet(kind=3), "127.0.0.9"),
            (packet(code=1), "127.0.0.9"),
            (packet()[:-1], "127.0.0.9"),
            (b"", "127.0.0.9"),
        ):
            one._take(forged, (sender, 0))
        assert answers == []
        one._take(packet(), ("127.0.0.9", 0))  # control
        one._take(packet(), ("127.0.0.9", 0))
        assert len(answers) == 1
        one.close()

    on_wire(test())


def test_waiting_probes_are_capped_and_forgotten() -> None:
    class Deaf:
        def sendto(self, *_: Any) -> None:
            pass

    now = [0.0]
    answers: Answers = []
    one = IcmpProber("127.0.0.2", lambda *a: answers.append(a), now=lambda: now[0], token=secrets.token_hex)
    one._socket._socket = Deaf()  # type: ignore[assignment]
    for seq in range(icmp.MAX_WAITING):
        one.send("192.0.2.1", seq)
    with pytest.raises(ProbeNotSent) as caught:
        one.send("192.0.2.1", 1)
    assert caught.value.reason == "crowded"
    nonce = next(iter(one._waiting._waiting))
    now[0] = 9.9
    one._take(icmp._HEADER.pack(0, 0, 0, 0, 0, nonce), ("192.0.2.1", 0))
    assert answers == [("192.0.2.1", 0, 0.0, 9.9)]  # late, but delivered
    now[0] = 10.1
    one.send("192.0.2.1", 1)
    assert one.waiting == 1


def test_a_source_that_is_not_ours_is_told() -> None:
    async def test() -> None:
        with pytest.raises(ProbeUnavailable, match=r"192\.0\.2\.77.*alias"):
            prober([], "192.0.2.77").open()

        class Failing:
            def __init__(self, code: int) -> None:
                self.code = code

            def sendto(self, *_: Any) -> None:
                raise OSError(self.code, "no")

        one = prober([])
        for code, reason in (
            (errno.ENETUNREACH, "unroutable"),
            (errno.ENETDOWN, "unroutable"),
            (errno.EADDRNOTAVAIL, "no-source"),
            (errno.EPERM, "denied"),
            (errno.ENOBUFS, "busy"),
            (errno.EMSGSIZE, "other"),
        ):
            one._socket._socket = Failing(code)  # type: ignore[assignment]
            with pytest.raises(ProbeNotSent) as caught:
                one.send("192.0.2.1", 1)
            assert caught.value.reason == reason
            assert one.waiting == 0

    on_wire(test())


def test_a_forbidden_socket_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    async def test() -> None:
        monkeypatch.setattr("edgeagent.probes.icmp.socket.socket", forbidden)
        with pytest.raises(ProbeForbidden) as caught:
            prober([]).open()
        assert re.search(r"/proc/sys/net/ipv4/ping_group_range.*sysctl", str(caught.value))
        assert isinstance(caught.value, PermissionError)
        monkeypatch.undo()

    asyncio.run(test())
