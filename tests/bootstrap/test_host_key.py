"""Whom the bootstrap talks to: a host key that somebody vouched for, and an owner whom the router knows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import shutil
from pathlib import Path

import asyncssh
import pytest

from edgeagent.routeros.ssh import Connection, read_key
from hil.virtual.routeros.ssh import make_host_key
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import run
from tests.bootstrap.support import OWNER, OWNER_PASSWORD, Done, Site, place

pytestmark = pytest.mark.slow
OTHER = "SHA256:" + "A" * 43


@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_that_nobody_vouched_for_is_refused_and_the_owners_password_stays_here(
    tmp_path: Path, version: Version
) -> None:
    async def test() -> None:
        async with place(tmp_path, version) as site:
            words = _without_key(site)
            for more, said in (
                ((), f"host key is {site.fingerprint}, and nobody vouched for it yet"),
                (("--host-key", OTHER), f"host key is {site.fingerprint}; expected {OTHER}"),
            ):
                done = await site.run("--bootstrap", *words, *more)
                assert (done.code, said in done.err) == (2, True), done.said
                assert not site.host_key_file.exists()
            assert "logged in" not in site.log()
            pinned = await site.run("--bootstrap", *words, "--host-key", site.fingerprint.removeprefix("SHA256:"))
            assert pinned.code == 0, pinned.said
            assert "logged in" in site.log()  # the control: a login would have been seen
            assert (await site.run("--bootstrap", *words)).code == 0  # by the pin alone

    run(test)


def test_a_changed_key_is_refused_whatever_else_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            assert (await site.bootstrap()).code == 0
            former = site.fingerprint
        async with place(tmp_path, "7.22", ssh_host_key=make_host_key()) as site:
            done = await site.bootstrap()  # with the new key given
            assert done.code == 2
            assert (
                f"host key is {site.fingerprint}; expected {former}, which stands in {site.host_key_file}" in done.err
            )
            assert "remove that file" in done.err
            assert "logged in" not in site.log()
            site.host_key_file.unlink()
            assert (await site.bootstrap()).code == 0

    run(test)


def test_a_pin_that_cannot_be_read_is_no_pin(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            for text in ("", "nonsense", "ssh-rsa", "ssh-rsa ===", "ssh-ed25519 AAAA", "foo AAAA"):
                site.host_key_file.write_text(text)
                done = await site.bootstrap()
                assert done.code == 2, text
                assert "router.hostkey" in done.err
            assert "logged in" not in site.log()

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_password_and_an_unknown_owner_are_told_and_nothing_is_done(tmp_path: Path, version: Version) -> None:
    async def test() -> None:
        async with place(tmp_path, version) as site:
            unknown = await site.bootstrap(owner="nobody")
            site.owner_file.write_text("another-secret\n")
            wrong = await site.bootstrap()
            for done, user in ((unknown, "nobody"), (wrong, OWNER)):
                assert (done.code, f"refused the user '{user}'" in done.err) == (2, True), done.said
                assert "Nothing was done" in done.err
                assert "secret" not in done.said
            assert site.rows("/system/history") == []

    run(test)


def test_what_is_missing_on_the_command_line_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            port = str(site.router.ports["ssh"])
            for words, said in (
                (("--host-key", OTHER), "--ssh-user"),
                (("--ssh-user", OWNER, "--host-key", OTHER), "--ssh-password-file or --ssh-key-file"),
                (("--ssh-user", OWNER, "--ssh-password-file", "none"), "none: No such file"),
                (("--ssh-user", OWNER, "--ssh-port", "1", "--ssh-password-file", "none"), "no SSH connection from 127"),
            ):
                more = () if "--ssh-port" in words else ("--ssh-port", port)
                given = () if "--host-key" in words else ("--host-key", site.fingerprint)
                done = await site.run("--bootstrap", *words, *more, *given)
                assert (done.code, said in done.err) == (2, True), done.said
                assert "Traceback" not in done.err
            for words in (
                ("--rollback", "4"),
                ("--rollback", "x"),
                ("--ssh-password-file", "a", "--ssh-key-file", "b"),
            ):
                assert (await site.run("--bootstrap", *words)).code == 2
            assert site.rows("/system/history") == []

    run(test)


@pytest.mark.parametrize(("answer", "code"), [("yes", 0), ("no", 2)])
def test_on_a_terminal_the_key_is_shown_and_the_password_asked_without_echo(
    tmp_path: Path, answer: str, code: int
) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            words = ["--ssh-user", OWNER, "--ssh-port", str(site.router.ports["ssh"])]
            answers = [(b"Type yes", answer), (b"Password of admin", OWNER_PASSWORD)]
            done = await _on_a_terminal(site.command("--bootstrap", *words), answers)
            assert done.code == code, done.out
            assert site.fingerprint in done.out
            assert OWNER_PASSWORD not in done.out
            assert answer in done.out  # the control: what is echoed is seen
            assert site.host_key_file.exists() == (code == 0)

    run(test)


async def _on_a_terminal(command: list[str], answers: list[tuple[bytes, str]]) -> Done:
    """Run a program on a terminal of its own, and answer what it asks."""
    setsid = shutil.which("setsid")
    assert setsid is not None
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        setsid, "--ctty", "--wait", *command, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = bytearray()

    def read() -> None:
        waiting = list(answers)
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:  # the last one hung up
                return
            shown.extend(data)
            if waiting and waiting[0][0] in shown:
                os.write(master, f"{waiting.pop(0)[1]}\n".encode())

    try:
        await asyncio.to_thread(read)
        code = await process.wait()
    finally:
        os.close(master)
    return Done(code, shown.decode(errors="replace"), "", set())


def _without_key(site: Site) -> list[str]:
    words = site.bootstrap_words()
    return words[: words.index("--host-key")]


@pytest.mark.parametrize("passphrase", ["", "of the key"])
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_an_owner_logs_in_by_key(tmp_path: Path, kind: str, passphrase: str) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            key, other = await _key_file(tmp_path, "owner-key", kind, passphrase), tmp_path / "other-key"
            await _key_file(tmp_path, "other-key", kind, "")
            await site.upload("owner.pub", (tmp_path / "owner-key.pub").read_bytes())
            assert await site.console("/user ssh-keys import public-key-file=owner.pub user=admin") == ""
            assert site.names("/file") == set()
            by_password = await site.bootstrap()
            assert (by_password.code, "refused the user 'admin'" in by_password.err) == (2, True)
            by_other = await site.bootstrap("--ssh-key-file", str(other))
            assert (by_other.code, "refused the user 'admin'" in by_other.err) == (2, True)
            by_nonsense = await site.bootstrap("--ssh-key-file", str(site.site))
            assert (by_nonsense.code, "expected a private key" in by_nonsense.err) == (2, True), by_nonsense.said
            done = await site.bootstrap("--ssh-key-file", str(key))
            if passphrase:
                assert (done.code, "it is encrypted" in done.err) == (2, True), done.said
                words = [*_without_key(site)[:4], "--host-key", site.fingerprint, "--ssh-key-file", str(key)]
                done = await _on_a_terminal(site.command("--bootstrap", *words), [(b"Passphrase of", passphrase)])
                assert passphrase not in done.out
            assert done.code == 0, done.said

    run(test)


@pytest.mark.parametrize(("version", "signed_by"), [("6.49", "ssh-rsa"), ("7.22", "rsa-sha2-512")])
def test_sha_1_is_spoken_to_a_router_that_knows_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: Version, signed_by: str
) -> None:
    """The virtual 6.49 knows SHA-1 only, and here neither says with what a login may be signed (RFC 8308)."""
    monkeypatch.setattr(asyncssh.connection.SSHConnection, "_send_ext_info", lambda _self: None)

    def login(port: int, key: Path, pinned: str | None) -> tuple[str, str]:
        with contextlib.closing(Connection.open("127.0.0.1", port, "127.0.0.1", pinned)) as connection:
            connection.login("admin", read_key(str(key), None))
            assert connection.run(":put 1") == "1"
            transport = connection._transport
            return transport.host_key_type, transport._agreed_pubkey_algorithm

    async def test() -> None:
        async with place(tmp_path, version) as site:
            key = await _key_file(tmp_path, "owner-key", "rsa", "")
            await site.upload("owner.pub", (tmp_path / "owner-key.pub").read_bytes())
            assert await site.console("/user ssh-keys import public-key-file=owner.pub user=admin") == ""
            done = await site.bootstrap("--ssh-key-file", str(key))
            assert done.code == 0, done.said
            pinned = (tmp_path / "router.hostkey").read_text().strip()
            assert pinned.startswith("ssh-rsa ")
            for pin in (None, pinned):
                found = await asyncio.to_thread(login, site.router.ports["ssh"], key, pin)
                assert found == (signed_by, signed_by)

    run(test)


async def _key_file(folder: Path, name: str, kind: str, passphrase: str) -> Path:
    """A key as people have it, by OpenSSH's own program or by one that writes the same format."""
    key = asyncssh.generate_private_key(f"ssh-{kind}")
    key.write_private_key(folder / name, passphrase=passphrase or None)
    key.write_public_key(folder / f"{name}.pub")
    return folder / name
