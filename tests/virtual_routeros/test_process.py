"""The router as a process: ready line, control socket, TLS, foreign clients, a clean end."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import librouteros
import paramiko
import pytest
import routeros_api
from librouteros.exceptions import TrapError

from hil.virtual.routeros.values import VERSIONS, parse_time_s

START_S = 60.0
LIST = "/ip/firewall/address-list"


class RouterProcess:
    """A router started with its command line, and a client of its control socket."""

    def __init__(self, folder: Path, version: str) -> None:
        (folder / "password").write_text("secret\n")
        (folder / "initial.json").write_text(
            json.dumps({"/ip/address": [{"address": "192.0.2.2/24", "interface": "ether1"}]})
        )
        self.events = folder / "events.jsonl"
        command = [sys.executable, "-c", "from hil.virtual.routeros.main import main; raise SystemExit(main())"]
        command += ["--version", version, "--profile", "rb2011", "--port", "0", "--tls-port", "0", "--ssh-port", "0"]
        command += ["--password-file", str(folder / "password"), "--initial", str(folder / "initial.json")]
        command += ["--control", str(folder / "control"), "--events", str(self.events)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(START_S)
        self._control.connect(str(folder / "control"))
        self._lines = self._control.makefile("rw")

    def control(self, **request: object) -> dict[str, Any]:
        self._lines.write(json.dumps(request) + "\n")
        self._lines.flush()
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def stop(self) -> int:
        self._lines.close()
        self._control.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(START_S)


@pytest.fixture(scope="module", params=VERSIONS)
def router(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    process = RouterProcess(tmp_path_factory.mktemp("router"), request.param)
    yield process
    assert process.control(op="hello")["defects"] == []
    assert process.stop() == 0
    assert not Path(process.ready["certificate"]).exists()


def _pinned(router: RouterProcess) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=router.ready["certificate"])


def _librouteros(router: RouterProcess, *, tls: bool) -> Any:
    if tls:
        context = _pinned(router)
        return librouteros.connect(
            "127.0.0.1",
            "admin",
            "secret",
            port=router.ready["tls_port"],
            ssl_wrapper=lambda raw: context.wrap_socket(raw, server_hostname="127.0.0.1"),
        )
    return librouteros.connect("127.0.0.1", "admin", "secret", port=router.ready["port"])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_librouteros_reads_and_writes(router: RouterProcess, tls: bool) -> None:
    api = _librouteros(router, tls=tls)
    try:
        assert tuple(api("/ip/arp/print")) == ()
        entries = api.path("ip", "firewall", "address-list")
        row_id = entries.add(list="edge", address="192.0.2.77/32", timeout="1m")
        (row,) = entries
        assert (row[".id"], row["address"], row["dynamic"]) == (row_id, "192.0.2.77", True)
        assert 0 < parse_time_s(row["timeout"]) < 60
        entries.update(**{".id": row_id, "timeout": "5m"})
        with pytest.raises(TrapError, match="already have such entry"):
            entries.add(list="edge", address="192.0.2.77")
        entries.remove(row_id)
        with pytest.raises(TrapError, match="no such item"):
            entries.remove(row_id)
        assert tuple(entries) == ()
        name = librouteros.query.Key("name")
        (ether10,) = api.path("interface").select(name).where(name == "ether10")
        assert ether10 == {"name": "ether10"}
    finally:
        api.close()


def test_librouteros_with_a_wrong_password_is_refused(router: RouterProcess) -> None:
    with pytest.raises(TrapError, match="invalid user name or password"):
        librouteros.connect("127.0.0.1", "admin", "wrong", port=router.ready["port"])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_routeros_api_which_tags_every_command_reads_and_writes(router: RouterProcess, tls: bool) -> None:
    options = {"use_ssl": True, "ssl_context": _pinned(router)} if tls else {}
    pool = routeros_api.RouterOsApiPool(
        "127.0.0.1",
        username="admin",
        password="secret",
        port=router.ready["tls_port" if tls else "port"],
        plaintext_login=True,
        **options,
    )
    try:
        api = pool.get_api()
        entries = api.get_resource(LIST)
        assert entries.get() == []
        entries.add(list="edge", address="192.0.2.78")
        (row,) = entries.get(list="edge")
        assert (row["address"], row["disabled"]) == ("192.0.2.78", "false")
        entries.set(id=row["id"], comment="checked")
        entries.remove(id=row["id"])
        with pytest.raises(routeros_api.exceptions.RouterOsApiCommunicationError, match="no such item"):
            entries.remove(id=row["id"])
        assert entries.get() == []
    finally:
        pool.disconnect()


def test_control_socket_reads_writes_and_misbehaves(router: RouterProcess) -> None:
    assert router.control(op="hello")["profile"] == "rb2011"
    assert router.control(op="rows", menu="/ip/address")["rows"][0]["address"] == "192.0.2.2/24"
    answer = router.control(op="sentence", words=[f"{LIST}/add", "=list=c", "=address=192.0.2.5"])
    row_id = answer["rows"][0]["ret"]
    assert router.control(op="sentence", words=[f"{LIST}/remove", f"=.id={row_id}"]) == {"ok": True, "rows": []}
    gone = router.control(op="sentence", words=[f"{LIST}/remove", f"=.id={row_id}"])
    assert gone == {"ok": False, "error": "no such item", "category": 0}
    number = router.control(op="misbehave", kind="trap", command="/log", message="m")["number"]
    assert router.control(op="clear", number=number) == {"ok": True}
    assert router.control(op="plane", do="counters", interface="ether1", counters={"rx-byte": 7}) == {"ok": True}
    (row,) = router.control(op="sentence", words=["/interface/print", "?name=ether1"])["rows"]
    assert row["rx-byte"] == "7"


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "dance"},
        {"op": "rows", "menu": "/nothing"},
        {"op": "rows"},
        {"op": "misbehave", "kind": "sulk"},
        {"op": "plane", "do": "dance"},
        {"op": "plane", "do": "link", "interface": "ether99", "running": True},
    ],
)
def test_control_socket_says_what_was_wrong(router: RouterProcess, request_: dict[str, object]) -> None:
    answer = router.control(**request_)
    assert answer["ok"] is False
    assert answer["error"]


def test_events_are_in_the_file(router: RouterProcess) -> None:
    router.control(op="sentence", words=["/system/identity/print"])
    assert '"words": ["/system/identity/print"]' in router.events.read_text()


def test_wrong_initial_configuration_is_told_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "initial.json").write_text(json.dumps({"/ip/address": [{"address": "x", "interface": "ether1"}]}))
    command = [sys.executable, "-c", "from hil.virtual.routeros.main import main; raise SystemExit(main())"]
    ended = subprocess.run(
        [*command, "--port", "0", "--tls-port", "0", "--initial", str(tmp_path / "initial.json")],
        capture_output=True,
        text=True,
        timeout=START_S,
        env=os.environ,
    )
    assert ended.returncode == 1
    assert "/ip/address" in ended.stderr
    assert "invalid value for argument address" in ended.stderr


def test_ssh_is_found_where_the_ready_line_and_hello_say(router: RouterProcess) -> None:
    hello = router.control(op="hello")
    assert hello["ports"]["ssh"] == router.ready["ssh_port"]
    assert hello["ssh_host_key"] == router.ready["ssh_host_key"]
    with paramiko.SSHClient() as client:
        kind, _, key = router.ready["ssh_host_key"].partition(" ")
        known = paramiko.RSAKey(data=base64.b64decode(key))
        client.get_host_keys().add(f"[127.0.0.1]:{router.ready['ssh_port']}", kind, known)
        client.connect("127.0.0.1", router.ready["ssh_port"], "admin", "secret", look_for_keys=False, allow_agent=False)
        _in, out, _err = client.exec_command(":put [/system resource get board-name]")
        assert out.read() == b"RB2011UiAS\r\n"
