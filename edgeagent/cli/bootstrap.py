"""``edgeagent provision --bootstrap``: from a router with its owner's SSH login to one that the agent can work with.

First everything is read and judged; a router on which anything stands in the way is not touched. Then the backup, then
a rollback that waits in the router, then the changes, then the proof that the agent gets in, and only then is the
rollback taken away. A run that was broken off, at whatever point, is taken up by the next one; where nothing is left to
do, nothing is done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent import texts
from edgeagent.cli import owner
from edgeagent.cli.access import PROVED, UNDER_WAY, Memory, carried_out, log_in, memory_of, pinned, remember
from edgeagent.cli.owner import Refused
from edgeagent.cli.status import ask
from edgeagent.config.site import Site
from edgeagent.host import clock, secrets
from edgeagent.host.ownership import as_owner
from edgeagent.routeros import access, adopted, inspection
from edgeagent.routeros.access import Access
from edgeagent.routeros.errors import (
    RouterComplaint,
    RouterLoginRefused,
    RouterUnreachable,
    RouterUntrusted,
)
from edgeagent.store.store import Store

if TYPE_CHECKING:
    from edgeagent.routeros.ssh import Connection

ROLLBACK_S, ROLLBACK_LEAST_S, ROLLBACK_MOST_S = 600, 5, 3600
BACKUPS = "router-backups"
TRIES, PAUSE_S = 10, 2.0  # a small board takes some seconds to offer TLS with a certificate it was just given


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options that ``provision`` takes for this."""
    owner.add(parser, "provision")
    said = texts.help_of("provision --rollback")
    parser.add_argument("--rollback", type=_seconds, default=ROLLBACK_S, metavar="SECONDS", help=said)


def main(site: Site, arguments: argparse.Namespace) -> int:
    """Bring the agent's access in; returns the exit code."""
    return carried_out(site, arguments, _bootstrap)


async def _bootstrap(site: Site, arguments: argparse.Namespace, store: Store) -> int:
    if arguments.ssh_user is None:
        raise Refused(texts.screen("owner no user"))
    connection = owner.connect(site, arguments)
    try:
        work = _Bootstrap(site, arguments, store, connection)
        return await work.run()
    finally:
        connection.close()


class _Bootstrap:
    """One run."""

    def __init__(self, site: Site, arguments: argparse.Namespace, store: Store, connection: Connection) -> None:
        self.site = site
        self.login = arguments.ssh_user.partition("+")[0]  # what follows is a wish about the terminal
        self.rollback_s = arguments.rollback
        self.store = store
        self.router = owner.Console(connection)
        self.password = _line(site.router.password_file)

    @property
    def access(self) -> Access:
        from edgeagent.host import keys

        fingerprint = keys.certificate_fingerprint(pinned(self.site).encode())
        return Access(self.site.router.user, self.site.agent_address, fingerprint)

    async def run(self) -> int:
        found = self.router.found()
        memory = await memory_of(self.store)
        self.judge(found, known=memory is not None or access.has_user(found, self.site.router.user))
        lacking = await self.lacking(found)
        if not lacking and not access.armed(found) and not self.router.leftovers():
            if memory is None or memory.state != PROVED:
                await self.finish(memory or Memory(PROVED, [], access.service(found), ""))
            print(texts.screen("bootstrap nothing"))
            return 0
        memory = await self.prepared(found, memory)
        self.arm(found, memory)
        found = self.router.found()  # a rollback of an earlier run may have come in between
        if inspection.jobs_allowed(found) and not access.armed(found):
            raise RouterComplaint(texts.screen("bootstrap rolled back"))
        self.change(found, await self.lacking(found))
        await self.prove()
        self.disarm()
        await self.finish(memory)
        done = "bootstrap done, running" if _runs(self.site) else "bootstrap done"
        print(texts.screen(done, user=self.site.router.user, port=self.site.router.port))
        return 0

    def judge(self, found: inspection.Found, *, known: bool) -> None:
        """Say everything at once; raises Refused where anything stands in the way."""
        site = inspection.Site(
            port=self.site.router.port,
            user=self.site.router.user,
            group=access.GROUP,
            certificate=access.CERTIFICATE,
            alias_prefix=self.site.alias_prefix,
            backups=tuple((path.interface, path.gateway, path.modem_page) for path in self.site.paths[1:]),
        )
        findings = inspection.judge(found, site, self.login, clock.wall(), known=known)
        for finding in findings:
            what = texts.screen("bootstrap blocks" if finding.blocks else "bootstrap warns")
            print(f"{what} {texts.screen(f'bootstrap {finding.code}', **finding.values)}", file=sys.stderr)
        if count := sum(finding.blocks for finding in findings):
            raise Refused(texts.screen("bootstrap blocked", count=count))

    async def lacking(self, found: inspection.Found) -> list[str]:
        """The parts that are not as wanted; what only a login can tell is tried where nothing else is missing."""
        lacking = access.lacking(found, self.access)
        if lacking:
            return lacking
        if not self.password:
            return ["user"]
        try:
            await log_in(self.site, self.password)
        except RouterLoginRefused:
            return ["user"]
        except RouterUntrusted:
            return ["certificate", "service"]
        return []

    async def prepared(self, found: inspection.Found, memory: Memory | None) -> Memory:
        """Backup and memory, unless an earlier run that is taken up has them; nothing is changed before."""
        there = access.there(found, self.site.router.user)
        if memory is not None and memory.state == UNDER_WAY and (there or access.armed(found)):
            print(texts.screen("bootstrap resumed"))
            return memory
        for name in self.router.leftovers():
            self.router.ssh.remove(name)
        former = json.loads(await self.store.kept(adopted.KEPT) or b"{}")
        if "service" not in there:  # then what stands there is the owner's
            values = access.service(found)
            former |= {setting.key: values[setting.attribute] for setting in adopted.ACCESS}
        new = [part for part in access.PARTS if part not in there]
        memory = Memory(UNDER_WAY, new, access.service(found), self.backup())
        await remember(self.store, memory, former)
        return memory

    def backup(self) -> str:
        """The whole configuration, encrypted, and as text without secrets; both on this machine, none on the router."""
        wall = clock.wall()
        stamp = f"{wall:%Y%m%d-%H%M%S}" if wall is not None else f"undated-{clock.token(4)}"
        name, password = f"{access.BACKUP}-{stamp}", clock.token(16)
        self.keep(f"{name}.password", f"{password}\n".encode())
        self.router.imported(access.backup_script(name, password), [password])
        self.router.say(access.export_line(name))
        sizes = []
        for file in (f"{name}.backup", f"{name}.rsc"):
            content = self.router.ssh.get(file)
            if not content:
                raise RouterComplaint(texts.screen("bootstrap empty", file=file))
            place = self.keep(file, content)
            self.router.ssh.remove(file)
            sizes.append(len(content))
        print(texts.screen("bootstrap backup", file=str(place.with_name(name)), backup=sizes[0], export=sizes[1]))
        return name

    def keep(self, name: str, content: bytes) -> Path:
        """A file beside the store, in a folder that belongs to the agent like the store itself."""
        place = Path(self.site.state_folder) / BACKUPS / name
        with as_owner(Path(self.site.state_folder)):
            place.parent.mkdir(mode=0o700, exist_ok=True)
            secrets.write(place, content)
        return place

    def arm(self, found: inspection.Found, memory: Memory) -> None:
        """From here on the router goes back by itself, or a person knows how."""
        lines = access.undo_lines(self.site.router.user, memory.new, memory.before)
        place = self.keep(f"{memory.backup}.undo", "".join(f"{line}\n" for line in lines).encode())
        if inspection.jobs_allowed(found):
            self.router.say(access.arm_line(lines, self.rollback_s))
            print(texts.screen("bootstrap armed", seconds=self.rollback_s))
        else:
            print(texts.screen("bootstrap unarmed", file=str(place), lines="\n  ".join(lines)))

    def change(self, found: inspection.Found, lacking: list[str]) -> None:
        """Make the parts that are lacking. Whoever gets a new certificate needs the service set anew."""
        for part in access.PARTS:
            if part == "group" and part in lacking:
                self.router.say(access.group_line(found))
            elif part == "user" and part in lacking:
                self.user()
            elif part == "certificate" and part in lacking:
                self.certificate()
            elif part == "service" and {"service", "certificate"}.intersection(lacking):
                self.router.say(access.service_line(self.access))
            else:
                continue
            print(texts.screen(f"bootstrap {part}"))

    def user(self) -> None:
        """The password is on our disk before the router has it; one that is there already is kept."""
        if not self.password:
            self.password = f"{clock.token(16)}-Ea"  # capitals, small letters, digits, a sign: for every password rule
            secrets.write(Path(self.site.router.password_file), f"{self.password}\n".encode())
        self.router.imported(access.user_script(self.access, self.password), [self.password])

    def certificate(self) -> None:
        """A new one each time: the key is kept nowhere, so one that went astray cannot be used again."""
        from edgeagent.host import keys

        made = keys.server_certificate(self.site.router.address)
        secrets.write(Path(self.site.router.certificate), made.certificate, 0o644)
        files = {f"{access.FILE}.crt": made.certificate, f"{access.FILE}.key": made.key}
        try:
            for name, content in files.items():
                self.router.ssh.put(name, content)
            lines = access.certificate_lines(keys.certificate_fingerprint(made.certificate))
            self.router.say(lines[0])
            for line in lines[1:-1]:
                self.router.ssh.run(line)  # it prints what it found; what it made is looked at below
            self.router.say(lines[-1])
        finally:
            self.router.clear(files)
        if "certificate" in access.lacking(self.router.found(), self.access):
            raise RouterComplaint(texts.screen("bootstrap no certificate"))

    async def prove(self) -> None:
        """By the very way the agent will come; a board that is not ready yet is asked again for a while."""
        for attempt in range(1, TRIES + 1):
            try:
                await log_in(self.site, self.password)
            except (RouterLoginRefused, RouterUntrusted):
                raise
            except RouterUnreachable:
                if attempt == TRIES:
                    raise
                await asyncio.sleep(PAUSE_S)
            else:
                print(texts.screen("bootstrap proved"))
                return

    def disarm(self) -> None:
        """And look whether the rollback came first after all."""
        self.router.say(access.disarm_line())
        found = self.router.found()
        if access.lacking(found, self.access) or access.armed(found):
            raise RouterComplaint(texts.screen("bootstrap rolled back"))

    async def finish(self, memory: Memory) -> None:
        """What is in the router from now on is meant to be there."""
        for name in self.router.leftovers():
            self.router.ssh.remove(name)
        await remember(self.store, Memory(PROVED, memory.new, memory.before, memory.backup))


def _line(path: str) -> str:
    """The password that is there already; empty where there is none yet."""
    try:
        return secrets.read(path)
    except OSError as error:
        if Path(path).exists() and Path(path).stat().st_size:
            raise Refused(texts.screen("unreadable", file=path, why=str(error.strerror))) from None
        return ""


def _runs(site: Site) -> bool:
    """Whether an agent runs here: it has the password of its start, if any."""
    try:
        ask(site.control_socket)
    except (OSError, ValueError):
        return False
    return True


def _seconds(text: str) -> int:
    if not (text.isdecimal() and ROLLBACK_LEAST_S <= int(text) <= ROLLBACK_MOST_S):
        raise argparse.ArgumentTypeError(texts.screen("bad seconds", least=ROLLBACK_LEAST_S, most=ROLLBACK_MOST_S))
    return int(text)
