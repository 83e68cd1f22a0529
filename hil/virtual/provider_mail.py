"""The provider's mail server: exim with its own configuration, delivering to a maildir in the bench's folder.

Port 465 speaks TLS from the first byte, port 587 demands STARTTLS (RFC 8314); AUTH PLAIN and LOGIN are offered only
under TLS. Delivered mails are read with maildrop.py.
"""

from __future__ import annotations

import functools
import pwd
import shlex
import shutil
import string
from enum import Enum
from pathlib import Path
from typing import Final

from hil.virtual import addresses
from hil.virtual.provider_events import EventLog
from hil.virtual.provider_names import MAIL_NAME
from hil.virtual.provider_programs import Program, ProgramError, Spawn, tcp_answers, wait_until
from hil.virtual.provider_sip import fill

SUBMISSION_PORT: Final = 587
SUBMISSIONS_PORT: Final = 465

_PLAIN: Final = string.ascii_letters + string.digits + "._-"
_TEMPLATE: Final = Path(__file__).with_name("templates") / "exim.conf"
_USER: Final = "Debian-exim"  # compiled into Debian's exim; deliveries as root are refused
# Where exim sees its folder. It gives up root, and then could not walk into a folder below a private one (as pytest's
# are); so the folder is mounted here, in a mount namespace of exim's own. /mnt exists on every Debian (base-files).
_ROOT: Final = "/mnt"


class MailMode(Enum):
    """What the server does with mail."""

    ACCEPT = "accept"
    DEFER = "defer"
    """451 at RCPT: try again later."""
    REJECT = "reject"
    """550 at RCPT: never."""
    DOWN = "down"
    """Not running: connections are refused."""


class MailServer:
    """exim in role "prov" on MAIL_SERVER, one account."""

    def __init__(
        self, spawn: Spawn, folder: Path, events: EventLog, certificate: Path, key: Path, login: str, password: str
    ) -> None:
        self.program = Program("exim", spawn, folder)
        self.certificate = certificate
        """To be trusted by whoever sends here; names ``mail.provider.example`` and the address."""
        self._root = folder / "mail"
        self._events = events
        self._key = key
        self._login = login
        self._password = password
        self.mode = MailMode.ACCEPT

    @property
    def maildir(self) -> Path:
        """The folder with ``new``, ``cur`` and ``tmp``."""
        return self._root / "maildir"

    async def start(self) -> None:
        """Start; returns when both ports answer."""
        self._prepare()
        exim = shutil.which("exim4") or "/usr/sbin/exim4"
        script = f'mount --bind {shlex.quote(str(self._root))} {_ROOT} && exec "$@"'
        shell = ["unshare", "--mount", "/bin/sh", "-c", script, "sh"]
        await self.program.start("prov", [*shell, exim, "-bdf", "-C", f"{_ROOT}/exim.conf"])
        for port in (SUBMISSION_PORT, SUBMISSIONS_PORT):
            await wait_until(functools.partial(self._answers, port), f"exim on port {port}")

    async def stop(self) -> None:
        """End it; connections are then refused. Delivered mail stays."""
        await self.program.stop(grace_s=0.5)

    async def set_mode(self, mode: MailMode) -> None:
        """From the next message on, do that; DOWN and back take as long as stopping and starting (under 1 s)."""
        if mode is self.mode:
            return
        for each in (MailMode.DEFER, MailMode.REJECT):
            # exim looks for these files at every RCPT, so no restart is needed.
            flag = self._root / f"mode.{each.value}"
            if each is mode:
                flag.touch()
            else:
                flag.unlink(missing_ok=True)
        if mode is MailMode.DOWN:
            await self.stop()
        elif self.mode is MailMode.DOWN:
            await self.start()
        self.mode = mode
        self._events.add("bench", "mail_mode", mode=mode.value)

    def _prepare(self) -> None:
        if not set(self._login + self._password) <= set(_PLAIN):
            raise ProgramError("login and password may hold letters, digits and . _ - only: they become exim text")
        try:
            user = pwd.getpwnam(_USER)
        except KeyError:
            raise ProgramError(f"no user {_USER}; install the package exim4-daemon-light") from None
        for name in ("", "spool", "log", "maildir", "maildir/new", "maildir/cur", "maildir/tmp"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.certificate, self._root / "cert.pem")
        shutil.copyfile(self._key, self._root / "key.pem")
        values = {
            "NAME": MAIL_NAME,
            "ADDRESS": addresses.MAIL_SERVER,
            "ROOT": _ROOT,
            "USER": _USER,
            "LOGIN": self._login,
            "PASSWORD": self._password,
        }
        config = self._root / "exim.conf"
        config.write_text(fill(_TEMPLATE.read_text(), values))
        for path in (self._root, *self._root.rglob("*")):
            shutil.chown(path, user.pw_uid, user.pw_gid)
        # exim reads its configuration only from a file of root's that nobody else may write.
        shutil.chown(config, "root", user.pw_gid)
        config.chmod(0o640)

    def _answers(self, port: int) -> bool:
        if not self.program.running:
            raise ProgramError(f"exim ended with code {self.program.exit_code}; see its log")
        return tcp_answers(self.program, addresses.MAIL_SERVER, port)
