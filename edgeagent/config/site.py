"""The configuration of one site, ``site.toml``.

Parsed once into frozen values. ``load`` raises :class:`ConfigError` with every problem; warnings do not stop anything.
Secrets are never in the file: it names files that hold them.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from pathlib import Path

import tomli
from msgspec import Struct

from edgeagent.config.reader import Found, Problem, Reader
from edgeagent.core.settings import (
    BACKUP_PROBING,
    PRIMARY_PROBING,
    FailbackSettings,
    PathSettings,
    Settings,
)

FORMAT = 1
FILE_MAX_BYTES = 65536
PATH_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
PRIMARY_TAG = "wan"
SITE_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,38}[A-Za-z0-9])?")  # becomes part of each Message-ID
SERVER_NAME = re.compile(r"[A-Za-z0-9.:-]{1,200}")


class ConfigError(ValueError):
    """The file cannot be used; ``problems`` says why, all of it."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))


class Router(Struct, frozen=True):
    """How to reach the router's API. ``certificate`` is the pinned server certificate (PEM)."""

    address: str
    port: int
    user: str
    password_file: str
    certificate: str
    lan_interface: str
    alias_address: str


class PathConfig(Struct, frozen=True):
    """One uplink as the site has it. ``source``: the agent's alias address whose probes go by this path."""

    name: str
    tag: str
    interface: str
    gateway: str
    source: str
    targets: tuple[str, ...]


class Provider(Struct, frozen=True):
    """The hosted-VoIP provider. ``prefixes``: where voice goes, signalling and media."""

    registrar: str
    registrar_port: int
    prefixes: tuple[str, ...]


class Mail(Struct, frozen=True):
    """Who is told, and the submission server that takes it."""

    server: str
    port: int
    security: str
    server_name: str
    user: str
    password_file: str
    ca_file: str
    sender: str
    customer: tuple[str, ...]
    support: tuple[str, ...]


class Site(Struct, frozen=True):
    """All of site.toml."""

    id: str
    name: str
    timezone: str
    agent_address: str
    alias_prefix: str
    router: Router
    paths: tuple[PathConfig, ...]
    provider: Provider
    mail: Mail
    failback: FailbackSettings
    state_folder: str
    control_socket: str

    def path(self, name: str) -> PathConfig:
        """The path of that name."""
        return next(path for path in self.paths if path.name == name)

    def settings(self) -> Settings:
        """What the core needs of it."""
        paths = tuple(
            PathSettings(path.name, path.tag, PRIMARY_PROBING if index == 0 else BACKUP_PROBING)
            for index, path in enumerate(self.paths)
        )
        return Settings(site=self.id, agent=self.agent_address, paths=paths, failback=self.failback)


def load(path: Path) -> Site:
    """Read and check ``site.toml``; raises :class:`ConfigError`."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), [Problem("", error.strerror or "an error", "a readable file")]) from error
    if len(raw) > FILE_MAX_BYTES:
        raise ConfigError(str(path), [Problem("", "a larger file", f"at most {FILE_MAX_BYTES} bytes")])
    try:
        table = tomli.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), [Problem("", f"not TOML: {error}", "TOML 1.0 in UTF-8")]) from error
    return parse(table, str(path))


def parse(table: dict[str, Found], where: str) -> Site:
    """Check a parsed file; raises :class:`ConfigError` with every problem in it."""
    problems: list[Problem] = []
    root = Reader(table, "", problems)
    if root.table.get("format") != FORMAT:
        root.problem("format", root.table.get("format"), f"{FORMAT}, the format that this version reads")
    root.table.pop("format", None)
    site = _site(root)
    root.end()
    if not problems:
        _check_whole(site, problems)
    if problems:
        raise ConfigError(where, problems)
    return site


def _site(root: Reader) -> Site:
    own = root.sub("site")
    agent = root.sub("agent")
    failback = root.sub("failback") if "failback" in root.table else Reader({}, "failback", root.problems)
    usual = FailbackSettings()
    site = Site(
        id=own.name("id", SITE_ID, "up to 40 letters, digits, dashes and underscores"),
        name=own.text("name"),
        timezone=own.text("timezone"),
        agent_address=agent.address("address"),
        alias_prefix=agent.prefix("alias_prefix"),
        router=_router(root.sub("router")),
        paths=_paths(root.sub("path")),
        provider=_provider(root.sub("provider")),
        mail=_mail(root.sub("mail")),
        failback=FailbackSettings(
            hold_s=failback.number("hold_s", 5.0, 3600.0, usual.hold_s),
            drain_limit_s=failback.number("drain_limit_s", 60.0, 86400.0, usual.drain_limit_s),
        ),
        state_folder=agent.text("state_folder", "/var/lib/edgeagent"),
        control_socket=agent.text("control_socket", "/run/edgeagent/control.sock", most=100),
    )
    for reader in (own, agent, failback):
        reader.end()
    return site


def _router(reader: Reader) -> Router:
    router = Router(
        address=reader.address("address"),
        port=reader.whole("port", 1, 65535, 8729),
        user=reader.text("user", most=64),
        password_file=reader.text("password_file"),
        certificate=reader.text("certificate"),
        lan_interface=reader.text("lan_interface", "bridge", most=64),
        alias_address=reader.address("alias_address"),
    )
    reader.end()
    return router


def _paths(reader: Reader) -> tuple[PathConfig, ...]:
    """The primary first, then the backups in the order of the file."""
    names = sorted(reader.table, key=lambda name: name != "primary")
    if names[:1] != ["primary"] or len(names) < 2:
        reader.problem(
            "", ", ".join(names) or None, "a table [path.primary] and at least one backup such as [path.lte]"
        )
    paths = []
    for name in names:
        own = reader.sub(name)
        if not PATH_NAME.fullmatch(name) or name == PRIMARY_TAG:
            own.problem("", name, f"a path name of up to 12 small letters and digits, not {PRIMARY_TAG}")
        paths.append(
            PathConfig(
                name=name,
                tag=PRIMARY_TAG if name == "primary" else name,
                interface=own.text("interface", most=64),
                gateway=own.address("gateway"),
                source=own.address("source"),
                targets=own.addresses("targets", 3 if name == "primary" else 1, 8),
            )
        )
        own.end()
    return tuple(paths)


def _provider(reader: Reader) -> Provider:
    provider = Provider(
        registrar=reader.address("registrar"),
        registrar_port=reader.whole("registrar_port", 1, 65535, 5060),
        prefixes=reader.prefixes("prefixes", 1),
    )
    reader.end()
    return provider


def _mail(reader: Reader) -> Mail:
    mail = Mail(
        server=reader.address("server"),
        port=reader.whole("port", 1, 65535, 465),
        security=reader.choice("security", ("tls", "starttls"), "tls"),
        server_name=reader.name("server_name", SERVER_NAME, "the name in the mail server's certificate"),
        user=reader.text("user"),
        password_file=reader.text("password_file"),
        ca_file=reader.optional_text("ca_file"),
        sender=reader.mailbox("sender"),
        customer=reader.mailboxes("customer"),
        support=reader.mailboxes("support"),
    )
    reader.end()
    return mail


def _check_whole(site: Site, problems: list[Problem]) -> None:
    """What no single key can know."""
    try:
        zoneinfo.ZoneInfo(site.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(Problem("site.timezone", repr(site.timezone), "a time zone such as America/Chicago"))
    alias = ipaddress.IPv4Network(site.alias_prefix)
    own = {"router.alias_address": site.router.alias_address}
    own.update({f"path.{path.name}.source": path.source for path in site.paths})
    for key, address in own.items():
        if ipaddress.IPv4Address(address) not in alias:
            problems.append(Problem(key, repr(address), f"an address within agent.alias_prefix {site.alias_prefix}"))
    if len(set(own.values())) != len(own):
        problems.append(
            Problem("path", ", ".join(own.values()), "a different alias address for each path and the router")
        )
    if len({path.interface for path in site.paths}) != len(site.paths):
        problems.append(Problem("path", site.paths[0].interface, "a different interface for each path"))
    voice = [ipaddress.IPv4Network(prefix) for prefix in site.provider.prefixes]
    for key, address in {"agent.address": site.agent_address, "router.address": site.router.address, **own}.items():
        if any(ipaddress.IPv4Address(address) in prefix for prefix in voice):
            expected = f"prefixes without the site's own {key} {address}, else its own packets count as voice"
            problems.append(Problem("provider.prefixes", repr(list(site.provider.prefixes)), expected))
    registrar = ipaddress.IPv4Address(site.provider.registrar)
    if not any(registrar in prefix for prefix in voice):
        expected = "an address within provider.prefixes, else its calls would not be moved"
        problems.append(Problem("provider.registrar", repr(site.provider.registrar), expected))
    if site.provider.registrar not in site.paths[0].targets:
        expected = "provider.registrar among the targets: the line matters as far as it reaches the provider"
        problems.append(Problem("path.primary.targets", repr(list(site.paths[0].targets)), expected))
