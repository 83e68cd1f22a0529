"""The router's owner: his login over SSH, once somebody has vouched for the router's host key, and his console."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent import texts
from edgeagent.config.site import Site
from edgeagent.host import secrets
from edgeagent.routeros import access, inspection, versions
from edgeagent.routeros.errors import RouterComplaint, RouterError, RouterUnreachable

if TYPE_CHECKING:
    from edgeagent.routeros.ssh import Connection, Key

HOST_KEY_FILE = "router.hostkey"
PINNED_MAX_BYTES = 16384


class Refused(Exception):
    """It cannot go on, and nothing was done; the text is for the person."""


def add(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare the options of a command that logs in as the owner."""
    parser.add_argument("--ssh-user", metavar="NAME", help=texts.help_of(f"{name} --ssh-user"))
    parser.add_argument("--ssh-port", type=int, default=22, metavar="N", help=texts.help_of(f"{name} --ssh-port"))
    secret = parser.add_mutually_exclusive_group()
    for option in ("--ssh-password-file", "--ssh-key-file"):
        secret.add_argument(option, type=Path, metavar="FILE", help=texts.help_of(f"{name} {option}"))
    parser.add_argument("--host-key", metavar="FINGERPRINT", help=texts.help_of(f"{name} --host-key"))


def connect(site: Site, arguments: argparse.Namespace) -> Connection:
    """Connect, have the host key vouched for, pin it, log in. Raises Refused."""
    from edgeagent.routeros.ssh import Connection, fingerprint  # paramiko is large: nobody else pays for it

    place = Path(site.router.certificate).with_name(HOST_KEY_FILE)
    secret_known = arguments.ssh_password_file or arguments.ssh_key_file or sys.stdin.isatty()
    if not secret_known:
        raise Refused(texts.screen("owner no secret"))
    pinned = _pinned(place)
    try:
        connection = Connection.open(site.router.address, arguments.ssh_port, site.agent_address, pinned)
    except RouterError as error:
        raise Refused(texts.screen("owner no connection", why=str(error), file=str(place))) from None
    try:
        shown = fingerprint(connection.host_key)
        if pinned is None:
            _vouch(shown, arguments.host_key, site.router.address)
            _pin(place, connection.host_key)
        else:
            _compare(connection.host_key, pinned, place)
        connection.login(arguments.ssh_user, _secret(arguments))
    except RouterError as error:
        connection.close()
        raise Refused(texts.screen("owner refused", why=str(error))) from None
    except BaseException:
        connection.close()
        raise
    said = texts.screen("owner connected", address=site.router.address, found=shown, file=str(place))
    print(said)
    return connection


def _pinned(place: Path) -> str | None:
    """The line of the host key that was vouched for; None where there is none yet."""
    from edgeagent.routeros.ssh import fingerprint

    try:
        with place.open("rb") as file:
            line = file.read(PINNED_MAX_BYTES).decode(errors="replace").strip()
        fingerprint(line)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(texts.screen("unreadable", file=str(place), why=str(error.strerror))) from None
    except (ValueError, IndexError):
        raise Refused(texts.screen("host key unreadable", file=str(place))) from None
    return line


def _compare(shown: str, pinned: str, place: Path) -> None:
    from edgeagent.routeros.ssh import fingerprint

    if shown != pinned:
        found, expected = fingerprint(shown), fingerprint(pinned)
        raise Refused(texts.screen("host key changed", found=found, expected=expected, file=str(place)))


def _vouch(shown: str, given: str | None, address: str) -> None:
    """Whoever has the fingerprint from the router itself gives it; else a person must say that it is right."""
    if given is not None:
        if given.removeprefix("SHA256:").rstrip("=") != shown.removeprefix("SHA256:"):
            raise Refused(texts.screen("host key other", found=shown, expected=given))
        return
    if not sys.stdin.isatty():
        raise Refused(texts.screen("host key unknown", found=shown))
    print(texts.screen("host key shown", address=address, found=shown))
    if input(texts.screen("host key question")).strip().lower() != "yes":
        raise Refused(texts.screen("host key declined"))


def _pin(place: Path, line: str) -> None:
    try:
        secrets.write(place, f"{line}\n".encode(), 0o644)
    except OSError as error:
        raise Refused(texts.screen("not written", file=str(place), why=str(error.strerror))) from None


def _secret(arguments: argparse.Namespace) -> str | Key:
    """The password or the key. A router as it left the factory may have an empty password."""
    if arguments.ssh_key_file is not None:
        return _key(str(arguments.ssh_key_file))
    if arguments.ssh_password_file is None:
        return getpass.getpass(texts.screen("owner password", user=arguments.ssh_user))
    try:
        with arguments.ssh_password_file.open("rb") as file:
            raw: bytes = file.read(secrets.SECRET_MAX_BYTES)
        return raw.decode().rstrip("\r\n")
    except OSError as error:
        raise Refused(texts.screen("unreadable", file=error.filename, why=str(error.strerror))) from None
    except UnicodeDecodeError:  # without its cause, which quotes the bytes
        why = texts.screen("owner not text")
        raise Refused(texts.screen("unreadable", file=str(arguments.ssh_password_file), why=why)) from None


def _key(path: str) -> Key:
    from edgeagent.routeros.ssh import KeyUnusable, read_key

    passphrase = None
    while True:
        try:
            return read_key(path, passphrase)
        except OSError as error:
            raise Refused(texts.screen("unreadable", file=path, why=str(error.strerror))) from None
        except KeyUnusable as error:
            if not (error.encrypted and passphrase is None and sys.stdin.isatty()):
                raise Refused(texts.screen("owner key unusable", why=str(error))) from None
        passphrase = getpass.getpass(texts.screen("owner passphrase", file=path))


class Console:
    """The router by its owner's console: questions, lines that print nothing, files to import."""

    def __init__(self, ssh: Connection) -> None:
        self.ssh = ssh

    def found(self) -> inspection.Found:
        """All that is judged and compared. Raises Refused for a version that is not known: nothing more is asked."""
        questions = dict(inspection.QUESTIONS)
        first = questions.pop("resource")
        found = {"resource": inspection.answer(first, self.ssh.run(first.line))}
        version = found["resource"][0]["version"]
        if versions.standing(version) == versions.UNLISTED:
            raise Refused(texts.screen("version refused", version=version or "(unknown)"))
        if versions.number(version) >= inspection.FIRST_DEVICE_MODE:
            questions["device-mode"] = inspection.DEVICE_MODE
        for name, question in questions.items():
            found[name] = inspection.answer(question, self.ssh.run(question.line))
        return found

    def say(self, line: str) -> None:
        """A line that prints nothing where it succeeds. Raises RouterComplaint with what was printed."""
        if printed := self.ssh.run(line):
            raise RouterComplaint(texts.screen("bootstrap complaint", line=line[:60], printed=printed[:300]))

    def imported(self, script: str, secrets_sent: list[str]) -> None:
        """Import a file that holds secrets; it is gone from the router afterwards, also where the import failed."""
        name = f"{access.FILE}.rsc"
        try:
            self.ssh.put(name, script.encode())
            printed = self.ssh.run(f"/import file-name={name}")
        finally:
            self.clear([name])
        if access.IMPORTED not in printed:
            printed = access.hidden(printed, secrets_sent)
            raise RouterComplaint(texts.screen("bootstrap complaint", line="/import", printed=printed[:300]))

    def clear(self, names: list[str] | dict[str, bytes]) -> None:
        """Remove files; where the connection is gone, the next run or the rollback does it."""
        for name in names:
            try:
                self.ssh.remove(name)
            except RouterUnreachable:
                return

    def leftovers(self) -> list[str]:
        """Files of ours that a broken run left."""
        return [name for name in self.ssh.files() if name.startswith((access.FILE, access.BACKUP))]
