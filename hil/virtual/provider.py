"""The hosted-VoIP provider of the virtual bench, from real programs: Kamailio, rtpengine, exim, dnsmasq, baresip.

Everything runs in the namespace of role "prov" on the addresses of addresses.py, except the ISP's name server (role
"isp"). The namespaces and their links are the topology's; this module only starts programs in them.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from hil.virtual import addresses
from hil.virtual.maildrop import MailDrop
from hil.virtual.phones import FAR_END, Phone
from hil.virtual.provider_events import EventLog
from hil.virtual.provider_mail import MailServer
from hil.virtual.provider_media import MediaCall, MediaRelay
from hil.virtual.provider_names import ISP_NAMES, MAIL_NAME, PROVIDER_NAMES, SIP_NAME, NameServer
from hil.virtual.provider_programs import GUARD_S, ProgramError, Spawn, stop_all
from hil.virtual.provider_sip import Binding, SipServer


class Provider:
    """All of the provider's machines. The parts are public: a story may stop or bend any of them alone.

    ``media_flags``: more words for rtpengine_manage, such as "media-handover" for a provider that follows a phone
    whose address changes in mid-call; by default it does not, as most do not.
    """

    def __init__(
        self,
        spawn: Spawn,
        folder: Path,
        events: EventLog | Path | TextIO,
        *,
        mail_login: str = "site-000123",
        mail_password: str = "bench-secret",  # noqa: S107 - protects nothing: the server exists in the bench only
        media_flags: str = "",
        isp_names: Mapping[str, str] = ISP_NAMES,
        with_isp: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate = folder / "cert.pem"
        self._key = folder / "key.pem"
        self._own_events = not isinstance(events, EventLog)
        self.events = events if isinstance(events, EventLog) else EventLog(events)
        self.sip = SipServer(spawn, folder, self.events, self.certificate, self._key, media_flags)
        self.media = MediaRelay(spawn, folder)
        self.mail = MailServer(spawn, folder, self.events, self.certificate, self._key, mail_login, mail_password)
        self.maildrop = MailDrop(self.mail.maildir, self.events)
        self.names = NameServer("dns-provider", "prov", addresses.PROVIDER_DNS, spawn, folder, PROVIDER_NAMES)
        self.isp_names = NameServer("dns-isp", "isp", addresses.ISP_DNS, spawn, folder, isp_names) if with_isp else None
        self.far_end = Phone(FAR_END, spawn, folder / "phones", self.events)

    async def start(self) -> None:
        """Start everything; returns when all of it answers and the far end is registered (under 2 s)."""
        await asyncio.to_thread(make_certificate, self.certificate, self._key)
        servers = [self.sip.start(), self.media.start(), self.mail.start(), self.names.start()]
        if self.isp_names is not None:
            servers.append(self.isp_names.start())
        try:
            await stop_all(servers)
            self.maildrop.start()
            await self.far_end.start()
            await self.far_end.wait_registered()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End every process; nothing of the provider is left running."""
        names = [self.isp_names.stop()] if self.isp_names is not None else []
        parts = [self.sip.stop(), self.media.stop(), self.mail.stop(), self.names.stop(), *names]
        await stop_all([self.far_end.stop(), self.maildrop.stop(), *parts])
        if self._own_events:
            self.events.close()

    def bindings(self) -> list[Binding]:
        """Every live registration, read from Kamailio."""
        return self.sip.bindings()

    def calls(self) -> list[MediaCall]:
        """Every call in the media relay with its packet counters, read from rtpengine."""
        return self.media.calls()

    async def pause(self, *, answer_ping: bool = True) -> None:
        """The provider's voice servers fall silent on every path and keep their state (clause P9)."""
        await self.sip.pause(answer_ping=answer_ping)

    async def resume(self) -> None:
        """End of :meth:`pause`."""
        await self.sip.resume()

    async def stop_voice(self) -> None:
        """The provider's voice servers die: ports closed, bindings and calls lost (clause P9, the hard way)."""
        await stop_all([self.sip.stop(), self.media.stop()])

    async def start_voice(self) -> None:
        """End of :meth:`stop_voice`. The far end registers again, so that it can be called at once."""
        await stop_all([self.sip.start(), self.media.start(), self.far_end.stop()])
        await self.far_end.start()
        await self.far_end.wait_registered()


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate of a week for the provider's names and addresses, unless there is one."""
    if certificate.exists() and key.exists():
        return
    names = f"DNS:{MAIL_NAME},DNS:{SIP_NAME},IP:{addresses.MAIL_SERVER},IP:{addresses.SBC}"
    # Elliptic: made in 20 ms, where an RSA key takes up to a second.
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "7", "-subj", f"/CN={MAIL_NAME}"]
    command += ["-addext", f"subjectAltName={names}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=False)
    if done.returncode != 0:
        raise ProgramError(f"openssl made no certificate: {done.stderr.strip()}")
