"""A real name server (dnsmasq) that knows nothing but what it is told, for tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MISSING = shutil.which("dnsmasq") is None
ANSWERS_S = 10.0
# A question for the root's name servers, which it refuses, and so answers.
PING = b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1"


@contextmanager
def name_server(address: str, port: int, records: Sequence[str], *more: str) -> Iterator[None]:
    """``records``: options such as ``--host-record=sbc.example,192.0.2.1``; every other name does not exist."""
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--user=", "--group=", "--pid-file=", "--no-resolv"]
    options += ["--no-hosts", "--bind-interfaces", "--log-facility=-", "--local-ttl=60", "--address=/#/"]
    command = ["dnsmasq", *options, f"--listen-address={address}", f"--port={port}", *records, *more]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(address, port, process)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((address, 0))
        port: int = free.getsockname()[1]
        return port


def _wait(address: str, port: int, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + ANSWERS_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        client.connect((address, port))
        while True:
            assert process.poll() is None and time.monotonic() < end_s, "dnsmasq does not answer"
            try:
                client.send(PING)
                client.recv(512)
            except OSError:
                continue
            return
