"""The support bundle: that it comes about whatever is broken, what is in it, and that it is refused with a secret."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent import texts
from edgeagent.cli import bundle, evidence
from edgeagent.cli.bundle import BUNDLE_MAX_BYTES, MANIFEST, PART_MAX_BYTES, File, fitted, packed
from edgeagent.cli.evidence import Evidence, Part
from edgeagent.cli.known import program_words
from edgeagent.cli.main import main
from edgeagent.config.redact import Redactor
from edgeagent.core.facts import Instant
from edgeagent.daemon.control import StatusSocket
from edgeagent.host import machine, service_log
from edgeagent.store import look
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.schema import FORMAT
from edgeagent.store.store import Store
from edgeagent.texts import en
from tests.agent.support import GOOD, MAIL_PASSWORD, PASSWORD, run
from tests.agent.test_status import DOCUMENT, asked, write_site

NOW = Instant(100.0, "0b1c2d3e-1234-5678-9abc-def012345678", 1_785_500_000.0, "synced")


def opened(path: Path) -> dict[str, str]:
    """The bundle's files by their names, without its folder."""
    with tarfile.open(path) as tar:
        found = {}
        for row in tar:
            assert (row.mode, row.uid, row.gid, row.uname, row.gname) == (0o600, 0, 0, "", "")
            file = tar.extractfile(row)
            assert file is not None
            found[row.name.partition("/")[2]] = file.read().decode()
    return found


async def filled_store(folder: Path) -> None:
    store = await Store.open(folder / "state" / "store.db")
    records = [Record("path", NOW, {"path": "primary", "verdict": "down"}), Record("gone kind", NOW, {"x": 1})]
    message = Outgoing("site-7.1.failover.support@x", "0b1c2d3e-1f", "support", "failover", {"who": "somebody"}, NOW)
    await store.commit(records, outbox=[message], keep={"a": b"b"})
    await store.close()


def made(folder: Path, *, output: str = "it.tar.gz") -> tuple[int, dict[str, str], str]:
    """The command in this process: exit code, the files, the manifest."""
    code = main(["--site", str(folder / "site.toml"), "bundle", "--output", str(folder / output)])
    files = opened(folder / output)
    return code, files, files[MANIFEST]


@pytest.fixture
def quiet_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose service manager keeps no log."""
    monkeypatch.setattr(service_log, "tail", lambda _most: None)


def test_beside_a_running_agent_everything_is_there_and_the_code_is_0(tmp_path: Path) -> None:
    async def test() -> None:
        site = write_site(tmp_path)
        await filled_store(tmp_path)
        socket = StatusSocket(tmp_path / "control.sock", lambda: DOCUMENT)
        await socket.open()
        done = await asked(site, "bundle", "--output", str(tmp_path / "it.tar.gz"))
        await socket.close()
        assert (done.returncode, done.stderr) == (0, "")
        assert "Nothing was sent" in done.stdout

    run(test)
    files = opened(tmp_path / "it.tar.gz")
    assert stat.S_IMODE((tmp_path / "it.tar.gz").stat().st_mode) == 0o600
    named = (
        "MANIFEST.txt",
        "status.json",
        "config.json",
        "store.json",
        "versions.json",
        "machine.json",
        "network.json",
    )
    assert [*files][: len(named) + 1] == [*named, "journal.jsonl"]
    assert json.loads(files["status.json"])["path"] == "lte"
    assert json.loads(files["config.json"])["failback.hold_s"] == 5
    assert {"python", "kernel", "packages"} <= json.loads(files["versions.json"]).keys()
    told = json.loads(files["machine.json"])
    assert told["memory"]["total_bytes"] > 1 << 20
    assert told["agent"]["rss_bytes"] > 1 << 20  # of this process, which served the status
    assert any("127.0.0.1/8" in row["addresses"] for row in json.loads(files["network.json"]))
    lines = [json.loads(line) for line in files["journal.jsonl"].splitlines()]
    assert lines[0]["data"] == {"path": "primary", "verdict": "down"}
    assert lines[1]["data"] == "[withheld]"
    store = json.loads(files["store.json"])
    assert (store["health"]["opening"], store["health"]["format"]) == ("good", FORMAT)
    assert store["outbox"]["states"] == {"queued": 1}
    assert store["outbox"]["messages"][0]["kind"] == "failover"
    assert "somebody" not in files["store.json"]
    for name in files:
        assert name in files[MANIFEST] or name == MANIFEST


@pytest.mark.usefixtures("quiet_host")
def test_what_the_running_agent_committed_last_is_there(tmp_path: Path) -> None:
    """It stands in the log beside the file until that is folded back."""

    async def test() -> None:
        write_site(tmp_path)
        store = await Store.open(tmp_path / "state" / "store.db")
        await store.commit([Record("place", NOW, {"path": "lte"})])
        _, files, _ = await asyncio.to_thread(made, tmp_path)
        assert '"place"' in files["journal.jsonl"]
        await store.commit([Record("place", NOW, {"path": "primary"})])  # and the agent goes on
        await store.close()

    run(test)


def dead(_folder: Path) -> None:
    """Nothing more than an agent that does not run."""


def damaged(folder: Path) -> None:
    path = folder / "state" / "store.db"
    path.write_bytes(path.read_bytes()[:2000] + os.urandom(20_000))


def no_database(folder: Path) -> None:
    (folder / "state" / "store.db").write_bytes(b"\0" * 5000)


def newer(folder: Path) -> None:
    with sqlite3.connect(folder / "state" / "store.db") as connection:
        connection.execute("PRAGMA user_version=99")
        connection.execute("ALTER TABLE outbox RENAME COLUMN state TO condition")
    connection.close()


def a_folder_instead(folder: Path) -> None:
    (folder / "state" / "store.db").unlink()
    (folder / "state" / "store.db").mkdir()


def no_toml(folder: Path) -> None:
    (folder / "site.toml").write_text(GOOD.replace("FOLDER", str(folder)).replace("[router]", "[router"))


def wrong_values(folder: Path) -> None:
    (folder / "site.toml").write_text(GOOD.replace("FOLDER", str(folder)).replace("8729", '"Zebulon"'))


def no_site(folder: Path) -> None:
    (folder / "site.toml").unlink()


def binary_site(folder: Path) -> None:
    (folder / "site.toml").write_bytes(os.urandom(3000))


BREAKS: list[tuple[Callable[[Path], None], str, str]] = [
    (dead, "status.json", "No agent answers"),
    (damaged, "store.json", "the store was not read whole"),
    (no_database, "store.json", "the store was not read whole"),
    (newer, "store.json", "newer"),
    (a_folder_instead, "store.json", "the store was not read whole"),
    (no_toml, "config.json", "site.toml cannot be used"),
    (wrong_values, "config.json", "site.toml cannot be used; its 1 problems"),
    (no_site, "config.json", "site.toml cannot be used"),
    (binary_site, "config.json", "site.toml cannot be used"),
]


@pytest.mark.usefixtures("quiet_host")
@pytest.mark.parametrize(("break_it", "name", "said"), BREAKS, ids=[one[0].__name__ for one in BREAKS])
def test_whatever_is_broken_there_is_a_bundle_that_says_so(
    tmp_path: Path, break_it: Callable[[Path], None], name: str, said: str
) -> None:
    write_site(tmp_path)
    asyncio.run(filled_store(tmp_path))
    break_it(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "state").glob("*.db") if path.is_file()}
    code, files, manifest = made(tmp_path)
    assert code == 1
    missing = re.findall(rf"^  {re.escape(name)}: (.*)$", manifest, re.MULTILINE)
    assert any(said in line for line in missing), manifest
    assert {"versions.json", "machine.json", "network.json", "store.json", "config.json"} <= files.keys()
    assert "Zebulon" not in "".join(files.values())
    assert all(path.read_bytes() == content for path, content in before.items()), "the store was touched"
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"store.db"}


@pytest.mark.usefixtures("quiet_host")
def test_problems_of_a_broken_site_are_told_without_what_was_found(tmp_path: Path) -> None:
    write_site(tmp_path)
    wrong_values(tmp_path)
    _, files, _ = made(tmp_path)
    problem = json.loads(files["config.json"])["problems"][0]
    assert (problem["key"], problem["found"]) == ("router.port", "")
    assert "whole number" in problem["expected"]


@pytest.mark.usefixtures("quiet_host")
def test_a_part_that_hangs_or_has_a_defect_takes_no_other_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_site(tmp_path)
    monkeypatch.setattr(evidence, "GATHER_S", 1.0)
    free = asyncio.Event()  # never set
    monkeypatch.setattr(machine, "versions", lambda: asyncio.run(free.wait()))
    nothing: dict[str, str] = {}
    monkeypatch.setattr(machine, "facts", lambda *_: nothing["a defect"])
    code, files, manifest = made(tmp_path)
    assert code == 1
    assert "versions.json: no answer in time" in manifest
    assert "machine.json: KeyError" in manifest
    assert "network.json" in files


@pytest.mark.usefixtures("quiet_host")
@pytest.mark.parametrize("secret", [PASSWORD, MAIL_PASSWORD, "MIIkeyMIIkeyMIIkey"])
def test_with_a_secret_in_it_no_bundle_is_written_clause_x4(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last net: redaction is switched off where the secret stands."""
    write_site(tmp_path)
    asyncio.run(filled_store(tmp_path))
    (tmp_path / "site.key").write_text("-----BEGIN PRIVATE KEY-----\nMIIkeyMIIkeyMIIkey\n-----END PRIVATE KEY-----\n")
    monkeypatch.setattr(machine, "versions", lambda: {"python": secret})
    code, files, _ = made(tmp_path)
    assert code == 1
    assert secret not in "".join(files.values())
    monkeypatch.setattr(Redactor, "value", lambda _self, value, _key="": value)
    assert main(["--site", str(tmp_path / "site.toml"), "bundle", "--output", str(tmp_path / "two.tar.gz")]) == 1
    said = capsys.readouterr().err
    assert "versions.json" in said
    assert secret not in said
    assert not (tmp_path / "two.tar.gz").exists()


def test_it_never_overwrites_and_says_where_it_cannot_write(tmp_path: Path) -> None:
    async def test() -> None:
        site = write_site(tmp_path)
        for output in (site, tmp_path / "nowhere" / "it.tar.gz"):
            done = await asked(site, "bundle", "--output", str(output))
            assert done.returncode == 2
            assert str(output) in done.stderr
            assert "Traceback" not in done.stderr
        assert site.read_text().startswith("format = 1")

    run(test)


def test_its_name_has_site_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_site(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["--site", "site.toml", "bundle"]) == 1
    names = [path.name for path in tmp_path.glob("*.tar.gz")]
    assert len(names) == 1
    assert re.fullmatch(r"edgeagent-site-7-\d{8}T\d{6}Z\.tar\.gz", names[0])


def test_the_same_files_make_the_same_bytes_and_nothing_of_the_machine_is_in_them() -> None:
    files = [File("a.txt", b"1"), File("b.txt", b"2")]
    first = packed("stem", files, 1_785_500_000)
    assert first == packed("stem", files, 1_785_500_000)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first))) as tar:
        assert tar.getnames() == ["stem/a.txt", "stem/b.txt"]


def test_what_is_too_long_loses_its_beginning_and_the_last_parts_lose_most() -> None:
    line = "x" * 99 + "\n"
    parts = [Part(f"{number}.txt", line * 15_000) for number in range(6)]
    files = fitted(parts)
    assert sum(len(file.content) for file in files) <= BUNDLE_MAX_BYTES
    for part, file in zip(parts, files, strict=True):
        assert len(file.content) <= PART_MAX_BYTES
        assert len(file.content) + file.left_out == len(part.text)
        assert file.content.startswith(b"x" * 99 + b"\n") or not file.content
    assert files[-1].left_out == 1_500_000
    assert fitted([Part("a", "short")])[0].left_out == 0


@pytest.mark.usefixtures("quiet_host")
def test_what_was_left_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_site(tmp_path)
    monkeypatch.setattr(bundle, "PART_MAX_BYTES", 300)
    _, files, manifest = made(tmp_path)
    assert all(len(content) <= 300 for name, content in files.items() if name != MANIFEST)
    assert re.search(r"of its beginning \d+ bytes were left out", manifest)


def test_every_file_and_every_kind_of_redaction_is_explained(tmp_path: Path) -> None:
    write_site(tmp_path)
    it = Evidence(tmp_path / "site.toml")
    for name in (*(part.name for part in it.parts()), "log.txt", "facts.jsonl", MANIFEST):
        assert texts.screen(f"manifest {name}")
    said = (Path(evidence.__file__).parents[1] / "config" / "redact.py").read_text()
    kinds = {*re.findall(r"_instead\(\"([a-z ]+)\"", said), *re.findall(r"^    \"(\w+)\": r", said, re.MULTILINE)}
    kinds -= {"ours", "uuid", "incident", "date", "decimal", "ipv4", "ipv6", "mac"}
    kinds -= {"address"}  # in logs only
    assert {f"withheld {kind}" for kind in kinds} <= en.SCREENS.keys()
    assert len(kinds) > 5


def test_a_secret_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """As an ordinary user: what is unknown cannot be searched for."""
    write_site(tmp_path)
    (tmp_path / "site.key").symlink_to("site.key")  # nobody can read it, not even root
    found = Evidence(tmp_path / "site.toml")
    assert found.missing == []  # a loop is no file
    (tmp_path / "mail.password").unlink()
    (tmp_path / "mail.password").symlink_to("mail.password")
    found = Evidence(tmp_path / "site.toml")
    assert any("mail.password" in line for line in found.missing)


@pytest.mark.usefixtures("quiet_host")
def test_a_user_who_may_read_little_gets_a_bundle_that_says_so() -> None:
    """Store and passwords belong to others: what is in them is neither told nor looked for."""
    program_words()  # this user may not be allowed to read this checkout
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        write_site(folder).chmod(0o644)
        asyncio.run(filled_store(folder))
        mine = os.geteuid()
        for path in (folder / "router.password", folder / "mail.password", folder / "state"):
            path.chmod(0o600 if mine == 0 and path.is_file() else 0o700 if mine == 0 else 0)
        try:
            if mine == 0:
                os.seteuid(65534)
            code, files, manifest = made(folder)
        finally:
            os.seteuid(mine)
            (folder / "state").chmod(0o700)
    assert code == 1
    for missing in ("router.password: Permission denied", "mail.password: Permission denied", "store.json: Permission"):
        assert missing in manifest
    assert {"config.json", "versions.json", "machine.json", "network.json"} <= files.keys()


def test_packed_facts_are_told_as_values_and_junk_is_not(tmp_path: Path) -> None:
    batch = {"boot_id": NOW.boot_id, "turns": [[1.0, None, "unknown", [{"type": "RouterReached", "at_s": 1.0}]]]}
    packed_ones = [msgspec.msgpack.encode(batch), b"\0" * (8 << 20), b"no values", "x"]

    async def fill() -> None:
        store = await Store.open(tmp_path / "store.db")
        await store.append([Record("facts", NOW, data) for data in packed_ones])
        await store.close()

    asyncio.run(fill())
    assert [line["data"] for line in look.journal(tmp_path / "store.db", ("facts",), 9)] == [batch, None, None, None]


def test_the_service_log_is_asked_for_without_the_hosts_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "journalctl"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    tool.chmod(0o755)
    said = service_log.tail(1000)
    assert said is not None
    assert "--no-hostname" in said
    assert "-u edgeagent" in said
    assert service_log.tail(10) == said[-10:]
    tool.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(OSError, match="journalctl ended with 1"):
        service_log.tail(1000)
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(service_log, "WAIT_S", 0.3)
    with pytest.raises(OSError, match="no answer"):
        service_log.tail(1000)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert service_log.tail(1000) is None


def test_help_is_had_without_psutil() -> None:
    """The agent itself never loads it."""
    code = "import sys; from edgeagent.cli.main import parser; parser(); sys.exit('psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def sample() -> dict[str, Any]:
    return machine.facts(Path("/proc/self/nowhere"), os.getpid())


def test_machine_facts_are_values_of_known_names() -> None:
    found = sample()
    assert found["agent"]["rss_bytes"] > 1 << 20
    assert found["uptime_s"] > 0
    assert machine.process(2**22 - 1) is None
    assert machine.listener("/nowhere/control.sock") is None
    assert found["state_folder"]["type"] == "proc"
    assert all(isinstance(value, float | int) for value in found["temperature_c"].values())
