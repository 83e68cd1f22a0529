"""host: clocks and the service manager's socket."""

import ctypes
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgeagent.host import clock, systemd


def test_clocks() -> None:
    first = clock.mono_s()
    assert clock.mono_s() >= first
    assert clock.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    now = clock.wall()
    assert now is not None
    assert abs((now - datetime.now(UTC)).total_seconds()) < 5
    assert abs((clock.wall_s() or 0.0) - now.timestamp()) < 5
    assert clock.token(8) != clock.token(8)
    assert len(bytes.fromhex(clock.token(8))) == 8


@pytest.mark.parametrize(
    ("stamp", "kernel", "year", "quality"),
    [
        (True, False, 2026, "synced"),
        (False, True, 2026, "synced"),
        (False, False, 2026, "unknown"),
        (True, True, 1970, "unknown"),
    ],
)
def test_wall_quality(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stamp: bool, kernel: bool, year: int, quality: str
) -> None:
    class Now(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Now":
            return cls(year, 1, 1, tzinfo=UTC)

    file = tmp_path / "synchronized"
    if stamp:
        file.touch()
    monkeypatch.setattr(clock, "_TIMESYNCD_STAMP", file)
    monkeypatch.setattr(clock, "_kernel_is_synced", lambda: kernel)
    monkeypatch.setattr(clock, "datetime", Now)
    assert clock.wall_quality() == quality
    assert (clock.wall() is None) == (year == 1970)


def test_the_kernels_answer_agrees_with_its_own_layout() -> None:
    state = clock._Timex()
    answer = clock._libc().adjtimex(ctypes.byref(state))
    assert clock._kernel_is_synced() == (answer >= 0 and answer != 5 and not state.status & 0x40)
    assert 0 <= state.status < 0x10000


def test_sd_notify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.ready()
    for address in (str(tmp_path / "notify"), f"@edgeagent-test-{tmp_path.name}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + address[1:] if address.startswith("@") else address)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            assert systemd.ready("on primary\nREADY=0")
            assert systemd.alive()
            assert systemd.status("on lte")
            assert [manager.recv(500) for _ in range(3)] == [
                b"READY=1\nSTATUS=on primary READY=0",
                b"WATCHDOG=1",
                b"STATUS=on lte",
            ]
    assert not systemd.alive()  # nobody listens any more: told, not raised


def test_watchdog_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    for usec, expected in (("30000000", 30.0), ("0", None), ("x", None), ("", None)):
        monkeypatch.setenv("WATCHDOG_USEC", usec)
        assert systemd.watchdog_s() == expected
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_s() is None
