"""Every command with a broken site.toml: every fault named, exit 2, and nothing started."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.cli.main import main
from edgeagent.config.site import ConfigError, load
from hil.virtual.routeros.certificate import make_certificate
from tests.agent.support import GOOD
from tests.agent.test_status import write_site

COMMANDS = (
    ("run",),
    ("run", "--verbose"),
    ("provision", "--plan"),
    ("provision", "--apply"),
    ("provision", "--remove"),
    ("status",),
    ("status", "--json"),
    ("check-config",),
    ("check-config", "--migrate"),
    ("config",),
    ("config", "--origin"),
    ("config", "--json"),
)
# What is broken in the file: the fault's key, and what stands there instead of what. The router's address is good.
FAULTS = {
    "site.id": ('id = "site-7"', 'id = "site 7"'),
    "site.nmae": ('name = "Bakery', 'nmae = "Bakery'),
    "path.lte.source": ('source = "127.9.9.3"', 'source = "127.9.9.2"'),
    "provider.prefixes": ('"127.30.0.0/27"', '"127.30.0.1/27"'),
    "mail.customer": ('customer = ["owner@bakery.example"]', "customer = 7"),
    "failback.hold_s": ("hold_s = 5", "hold_s = nan"),
}


@contextlib.contextmanager
def witness() -> Iterator[socket.socket]:
    """Where the router should be: it sees each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def connected(listening: socket.socket, wait_s: float) -> bool:
    """Whether anyone connects within ``wait_s``."""
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        if not selector.select(wait_s):
            return False
    listening.accept()[0].close()
    return True


def write(folder: Path, port: int, text: str = GOOD) -> Path:
    make_certificate(folder, "127.0.0.1")
    return write_site(folder, text.replace("port = 8729", f"port = {port}"))


def broken() -> str:
    text = GOOD
    for before, after in FAULTS.values():
        assert before in text
        text = text.replace(before, after)
    return text


def start(site: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeagent", "--site", str(site), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_broken_file_starts_nothing_and_every_fault_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    with witness() as router:
        site = write(tmp_path, router.getsockname()[1], broken())
        before = sorted(tmp_path.iterdir())
        stdout, stderr = (process := start(site, *command)).communicate(timeout=30)
        assert not connected(router, 0)
    assert (process.returncode, stdout) == (2, "")
    for key in FAULTS:
        assert re.search(rf"site\.toml: {re.escape(key)}: found .+, expected .+", stderr), f"{key} is not in {stderr}"
    assert "did you mean name?" in stderr
    assert "check-config" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert sorted(tmp_path.iterdir()) == before, "a state folder, a socket or another file was made"


@pytest.mark.parametrize("command", [("run",), ("provision", "--plan")], ids=" ".join)
def test_control_the_good_file_does_connect(tmp_path: Path, command: tuple[str, ...]) -> None:
    with witness() as router:
        process = start(write(tmp_path, router.getsockname()[1]), *command)
        try:
            assert connected(router, 30)
            if command == ("run",):
                until = time.monotonic() + 30
                while not ((tmp_path / "state").exists() and (tmp_path / "control.sock").exists()):
                    assert time.monotonic() < until, "neither state folder nor socket"
                    time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[site\n", r"line 1, column 6: found not TOML .+, expected a closing bracket"),
        (b"format = 1\n[site]\nid = site-7\n", r"line 3, column 6: .+expected a value after the \"=\""),
        (b'format = 1\nformat = 1\n[site]\nid = "a"\n', r"line 2, column 11: .+only once"),
        (b"\xef\xbb\xbfformat = 1\n", r"line 1: found a byte order mark, .+no BOM"),
        ("format = 1\n".encode("utf-16"), r"line 1: found a byte order mark"),
        (b'format = 1\nname = "B\xfccker"\n', r"line 2, column 10: found the byte 0xfc, which is not UTF-8"),
        (b"a = 1\nb = " + b"[" * 9000, r"line 2: found a value too long or too deep"),
        (b"#" * 70000, r"found a larger file, expected at most 65536 bytes"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line_and_what_to_do(tmp_path: Path, raw: bytes, said: str) -> None:
    site = tmp_path / "site.toml"
    site.write_bytes(raw)
    _, stderr = (process := start(site, "check-config")).communicate(timeout=30)
    assert process.returncode == 2
    assert re.search(rf"site\.toml: {said}", stderr), stderr
    assert "Traceback" not in stderr


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    for name, said in (
        (".", "found a folder"),
        ("pipe", "found something that is no ordinary file"),
        ("none", "found no such file or directory, expected an existing file: copy the example"),
        ("file/site.toml", "found not a directory"),
        ("n" * 300, "found file name too long"),
    ):
        _, stderr = (process := start(tmp_path / name, "check-config")).communicate(timeout=30)
        assert process.returncode == 2
        assert said in stderr, stderr
        assert "Traceback" not in stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who may not read")
def test_a_file_that_may_not_be_read_is_told_with_what_to_do(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    site.chmod(0o600)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="permission denied, expected a file that this user may read"):
            load(site)
    finally:
        os.seteuid(0)


def test_a_disk_that_fails_may_pass_and_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 is what systemd starts nothing anew for: only a person mends the file."""
    site = write_site(tmp_path)
    for number, code in ((errno.EIO, 1), (errno.ENOMEM, 1), (errno.EACCES, 2), (errno.ENOENT, 2)):

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", fail)
            assert main(["--site", str(site), "run"]) == code
        assert os.strerror(number).lower() in capsys.readouterr().err
    site.write_text("nonsense")
    assert main(["--site", str(site), "run"]) == 2
