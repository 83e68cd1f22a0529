"""Netlink without libraries: requests, attributes, and the interfaces of the namespace (linux/netlink.h, if_link.h)."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ATTRIBUTE_TYPE_MASK: Final = 0x3FFF

_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_RTM_GETLINK: Final = 18
_RTMGRP_LINK: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_STATS64: Final = 23
_IFLA_INFO_KIND: Final = 1
_IFF_UP: Final = 0x1
_IFF_LOWER_UP: Final = 0x10000
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GLINK: Final = 0x0A


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """The attributes in a message body or in a nested attribute."""
    view = memoryview(data)
    offset = 0
    while offset + 4 <= len(view):
        length, kind = _ATTRIBUTE.unpack_from(view, offset)
        if length < 4:
            return
        yield kind & _ATTRIBUTE_TYPE_MASK, view[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One encoded attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


class Netlink:
    """One request socket. Requests are answered by the kernel within the system call, so they may block the loop."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Send one request; return the bodies of its answers. Raises OSError with the kernel's errno."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, answer, _flags, sequence, _port = _HEADER.unpack_from(data, offset)
                body_part = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue  # the tail of a request that failed half-way
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body_part)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return found
                found.append(body_part)
            if not flags & (NLM_F_DUMP | NLM_F_ACK):
                return found


@dataclass(frozen=True)
class Link:
    """One network device. Counters are bytes and packets since it was made."""

    index: int
    name: str
    kind: str
    up: bool
    carrier: bool
    master: int
    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0

    @property
    def running(self) -> bool:
        """Up and with a carrier: RouterOS' ``running``."""
        return self.up and self.carrier


def _parse_link(body: bytes) -> Link:
    index, flags = struct.unpack_from("=iI", body, 4)
    name, kind, master, stats = "", "", 0, (0, 0, 0, 0)
    for number, value in attributes(body[16:]):
        if number == _IFLA_IFNAME:
            name = bytes(value).rstrip(b"\0").decode()
        elif number == _IFLA_MASTER:
            master = struct.unpack("=I", value)[0]
        elif number == _IFLA_STATS64:
            stats = struct.unpack_from("=4Q", value)
        elif number == _IFLA_LINKINFO:
            kinds = dict(attributes(value))
            kind = bytes(kinds.get(_IFLA_INFO_KIND, memoryview(b""))).rstrip(b"\0").decode()
    return Link(index, name, kind, bool(flags & _IFF_UP), bool(flags & _IFF_LOWER_UP), master, *stats)


class Links:
    """The devices of the namespace, and their changes as events."""

    # A TAP's carrier loss reaches the netlink group up to 1 s late (net/core/link_watch.c: not "urgent"), so these are
    # asked for it; asking also makes the kernel send the event. 20 ms is the bench's promise.
    POLL_S: Final = 0.02

    def __init__(self) -> None:
        self._netlink = Netlink(socket.NETLINK_ROUTE)
        self._monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._monitor.bind((0, _RTMGRP_LINK))
        self._monitor.setblocking(False)
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._poll: asyncio.TimerHandle | None = None
        self._last_carrier: dict[str, bool] = {}
        self.by_name: dict[str, Link] = {}

    def refresh(self) -> dict[str, Link]:
        """Read all devices and their counters now."""
        bodies = self._netlink.request(_RTM_GETLINK, NLM_F_DUMP, struct.pack("=BxHiII", 0, 0, 0, 0, 0))
        self.by_name = {link.name: link for link in map(_parse_link, bodies)}
        return self.by_name

    def running(self, name: str) -> bool:
        """Whether a device exists, is up and has a carrier."""
        link = self.by_name.get(name)
        return link is not None and link.running

    def watch(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` whenever a device changed (then :meth:`refresh` tells what)."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._monitor.fileno(), self._drain, heard)
        self._poll = loop.call_later(self.POLL_S, self._ask_taps, heard)

    def close(self) -> None:
        """Stop watching and give the sockets back."""
        if self._poll is not None:
            self._poll.cancel()
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
        for each in (self._netlink, self._monitor, self._probe):
            each.close()

    def _drain(self, heard: Callable[[], None]) -> None:
        while True:
            try:
                self._monitor.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # events were lost, which a refresh makes good
                    raise
        heard()

    def _ask_taps(self, heard: Callable[[], None]) -> None:
        self._poll = asyncio.get_running_loop().call_later(self.POLL_S, self._ask_taps, heard)
        now = {link.name: self._carrier(link.name) for link in self.by_name.values() if link.kind == "tun" and link.up}
        changed = any(self._last_carrier.get(name, self.by_name[name].carrier) != state for name, state in now.items())
        self._last_carrier = now
        if changed:
            heard()

    def _carrier(self, name: str) -> bool:
        """ETHTOOL_GLINK (linux/ethtool.h); False for a device that just vanished."""
        value = bytearray(struct.pack("=II", _ETHTOOL_GLINK, 0))
        buffer = (struct.Struct("=16sQ8x")).pack(name.encode(), _address_of(value))
        try:
            fcntl.ioctl(self._probe, _SIOCETHTOOL, buffer)
        except OSError:
            return False
        return bool(struct.unpack_from("=I", value, 4)[0])


def _address_of(value: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(value)).from_buffer(value))
