"""The configuration of one site, ``site.toml``.

Parsed once into frozen values. ``load`` raises :class:`ConfigError` with every problem; warnings do not stop anything.
Secrets are never in the file: it names files that hold them.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.config import document
from edgeagent.config.document import ConfigError as ConfigError
from edgeagent.config.reader import Found, Notes, Problem, Reader, is_name, plain, shown
from edgeagent.core.settings import (
    BACKUP_PROBING,
    PRIMARY_PROBING,
    PRIMARY_TAG,
    FailbackSettings,
    MailSettings,
    PathSettings,
    Settings,
)

FORMAT = 1
STATIC, DHCP, PPPOE = "static", "dhcp", "pppoe"
PATHS_MAX = 8
CANARIES = 2
ICMP, ROUTER_PING = "icmp", "router_ping"
# The router's own ping: one rhythm for all times, for a running one cannot be hurried. Five lost in a row, a second
# apart, are beyond what bursts of 0.25 s at 2 % loss do about once a year (the chance that the next echo falls into the
# same burst is e^-4); detection takes 5 to 6 s. An unanswered echo is told a second after it was sent.
ROUTER_PROBING = replace(
    PRIMARY_PROBING,
    fast_interval_s=PRIMARY_PROBING.interval_s,
    reply_wait_s=1.0,
    lost_rounds=5,
    unsteady_rounds=3,
    sip_every=0,
    sip_every_fast=0,
)
KINDS = (STATIC, DHCP, PPPOE)
GENERIC = "generic"
# The ports of the primary and of the modem on the models that the service is sold with (demand C6).
PORTS = {GENERIC: None, "rb2011": ("ether1", "ether10"), "hap-ac2": ("ether1", "ether5")}
PATH_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
SITE_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,38}[A-Za-z0-9])?")  # becomes part of each Message-ID
SERVER_NAME = re.compile(r"[A-Za-z0-9.:-]{1,200}")


class Router(Struct, frozen=True):
    """How to reach the router's API. ``certificate`` is the pinned server certificate (PEM).

    ``alias_address``: the router's address in the agent's small subnet; empty where the agent has none there.
    """

    address: str
    port: int
    user: str
    password_file: str
    certificate: str
    lan_interface: str
    alias_address: str
    profile: str


class PathConfig(Struct, frozen=True):
    """One uplink as the site has it. ``source``: the address whose probes go by this path, an alias of the agent's or,
    where the router pings, one of the router's own. Among ``targets`` the registrar stands as ``provider`` has it.

    ``kind``: how the router comes by its address there, ``static``, ``dhcp`` or ``pppoe``. ``gateway``: the next hop,
    empty where the router is told it. ``modem_page``: the router's address in the modem's own subnet, with its length.
    """

    name: str
    tag: str
    interface: str
    kind: str
    gateway: str
    source: str
    targets: tuple[str, ...]
    modem_page: str


class Provider(Struct, frozen=True):
    """The hosted-VoIP provider. ``prefixes``: where its signalling is, and its media unless ``media_prefixes`` say so.

    ``ipv6_prefixes``: where its servers are reached by IPv6, which phones are kept from.

    ``registrar``: the address; before :func:`resolved` what the file says, which may be a name. ``registrar_name``:
    that name, empty where the file has an address.
    """

    registrar: str
    registrar_name: str
    registrar_port: int
    prefixes: tuple[str, ...]
    media_prefixes: tuple[str, ...]
    further_prefixes: tuple[str, ...]
    ipv6_prefixes: tuple[str, ...]

    @property
    def voice(self) -> tuple[str, ...]:
        """Every prefix that voice goes to, each once."""
        return tuple(dict.fromkeys((*self.prefixes, *self.media_prefixes, *self.further_prefixes)))

    def holds(self, address: str) -> bool:
        """Whether calls by way of this address would be moved."""
        return any(ipaddress.IPv4Address(address) in ipaddress.IPv4Network(prefix) for prefix in self.voice)


class Voice(Struct, frozen=True):
    """What is known of the phones. ``lans``: subnets with nothing but voice devices; without any they are learnt.

    ``resolvers``: who resolves names for them on a backup; without any no names are resolved there.
    """

    lans: tuple[str, ...]
    resolvers: tuple[str, ...]


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
    when: MailSettings


class Site(Struct, frozen=True):
    """All of site.toml."""

    id: str
    name: str
    timezone: str
    agent_address: str
    alias_prefix: str
    probe: str
    router: Router
    paths: tuple[PathConfig, ...]
    provider: Provider
    voice: Voice
    mail: Mail
    failback: FailbackSettings
    state_folder: str
    control_socket: str

    def path(self, name: str) -> PathConfig:
        """The path of that name."""
        return next(path for path in self.paths if path.name == name)

    @property
    def canaries(self) -> tuple[str, ...]:
        """Hosts beyond the primary that the router itself checks: two, or none where there are fewer.

        The provider's own would be no judges of a line, and of the site's own none lies beyond it.
        """
        near = {self.agent_address, self.router.address, *(path.gateway for path in self.paths), *self.voice.resolvers}
        nets = [ipaddress.IPv4Network(prefix) for prefix in (*self.provider.voice, self.alias_prefix)]
        fit = [
            host
            for host in self.paths[0].targets
            if host not in near | {self.provider.registrar}
            and not any(ipaddress.IPv4Address(host) in net for net in nets)
        ]
        return tuple(fit[:CANARIES]) if len(fit) >= CANARIES else ()

    @property
    def router_pings(self) -> bool:
        """Whether the router sends the probes; else the agent does, from its alias addresses."""
        return self.probe == ROUTER_PING

    def settings(self) -> Settings:
        """What the core needs of it."""
        primary = ROUTER_PROBING if self.router_pings else PRIMARY_PROBING
        canaries = frozenset(f"icmp:{host}" for host in self.canaries)
        paths = tuple(
            PathSettings(path.name, path.tag, BACKUP_PROBING)
            if index
            else PathSettings(path.name, path.tag, primary, canaries, f"icmp:{self.provider.registrar}")
            for index, path in enumerate(self.paths)
        )
        return Settings(
            site=self.id, agent=self.agent_address, paths=paths, failback=self.failback, mail=self.mail.when
        )


def load(path: Path, current: int = FORMAT) -> Site:
    """Read and check ``site.toml``; raises :class:`ConfigError`."""
    return parse(document.table(document.read(path), str(path)), str(path), current)


def parse(table: dict[str, Found], where: str, current: int = FORMAT, notes: Notes | None = None) -> Site:
    """Check a parsed file; raises :class:`ConfigError` with every problem in it. ``notes`` get what was read."""
    notes = Notes() if notes is None else notes
    root = Reader(table, "", notes)
    if _format(root, current):
        site = _site(root)
        root.end()
        notes.problems.extend(_whole(site, {problem.key for problem in notes.problems}))
    if notes.problems:
        raise ConfigError(where, notes.problems)
    return site


def resolved(site: Site, address: str) -> Site:
    """The site with the registrar's address in the place of its name."""
    name = site.provider.registrar_name
    paths = tuple(
        replace(path, targets=tuple(dict.fromkeys(address if host == name else host for host in path.targets)))
        for path in site.paths
    )
    return replace(site, paths=paths, provider=replace(site.provider, registrar=address))


def _format(root: Reader, current: int) -> bool:
    """Whether the other keys are worth reading: those of an older format are not the ones that are known here."""
    value = root.table.get("format")
    found = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if 0 < found < current:
        root.exactly("format", current, f"{current}: run edgeagent check-config --migrate")
        return False
    hint = f"install the newer version that wrote it, or put back its copy site.toml.format-{current}"
    root.exactly("format", current, f"{current}: {hint if found > current else 'the format that this version reads'}")
    return True


def _site(root: Reader) -> Site:
    own = root.sub("site")
    agent = root.sub("agent")
    failback = root.sub("failback", optional=True)
    usual = FailbackSettings()
    probe = agent.choice("probe", (ICMP, ROUTER_PING), ICMP)
    site = Site(
        id=own.name("id", SITE_ID, "up to 40 letters, digits, dashes and underscores"),
        name=own.text("name"),
        timezone=own.text("timezone"),
        agent_address=agent.address("address"),
        alias_prefix=agent.prefix("alias_prefix"),
        state_folder=agent.file("state_folder", "/var/lib/edgeagent"),
        control_socket=agent.file("control_socket", "/run/edgeagent/control.sock", most=100),
        probe=probe,
        router=(router := _router(root.sub("router"), aliases=probe != ROUTER_PING)),
        paths=_paths(root.sub("path"), PORTS[router.profile]),
        provider=_provider(root.sub("provider")),
        voice=_voice(root.sub("voice", optional=True)),
        mail=_mail(root.sub("mail")),
        failback=FailbackSettings(
            hold_s=failback.number("hold_s", 5.0, 3600.0, usual.hold_s),
            drain_limit_s=failback.number("drain_limit_s", 60.0, 86400.0, usual.drain_limit_s),
        ),
    )
    for reader in (own, agent, failback):
        reader.end()
    return site


def _router(reader: Reader, *, aliases: bool) -> Router:
    router = Router(
        address=reader.address("address"),
        port=reader.whole("port", 1, 65535, 8729),
        user=reader.text("user", most=64),
        password_file=reader.file("password_file"),
        certificate=reader.file("certificate"),
        lan_interface=reader.text("lan_interface", "bridge", most=64),
        alias_address=reader.address("alias_address", None if aliases else ""),
        profile=reader.choice("profile", tuple(PORTS), GENERIC),
    )
    reader.end()
    return router


def _paths(reader: Reader, ports: tuple[str, str] | None) -> tuple[PathConfig, ...]:
    """The primary first, then the backups in the order of the file. ``ports``: of the primary and of the modem."""
    names = sorted(reader.table, key=lambda name: name != "primary")
    if names[:1] != ["primary"] or not 2 <= len(names) <= PATHS_MAX:
        found = ", ".join(names)
        expected = f"a table [path.primary] and 1 to {PATHS_MAX - 1} backups such as [path.lte]"
        reader.problem("", found or None, expected)
        names = names[:PATHS_MAX]
        reader.table = {name: reader.table[name] for name in names}
    paths: list[PathConfig] = []
    for name in names:
        own = reader.sub(name)
        if not PATH_NAME.fullmatch(name) or name == PRIMARY_TAG:
            own.problem("", name, f"a path name of up to 12 small letters and digits, not {PRIMARY_TAG}")
        paths.append(_path(own, name, None if ports is None else ports[min(len(paths), 1)]))
        own.end()
    return tuple(paths)


def _path(own: Reader, name: str, port: str | None) -> PathConfig:
    kind = own.choice("kind", KINDS, STATIC)
    return PathConfig(
        name=name,
        tag=PRIMARY_TAG if name == "primary" else name,
        interface=own.text("interface", port, most=64),
        kind=kind,
        gateway=own.address("gateway", None if kind == STATIC else ""),
        source=own.address("source"),
        targets=own.hosts("targets", 3 if name == "primary" else 1, 8),
        modem_page=own.host_prefix("modem_page", "") if name != "primary" else "",
    )


def _provider(reader: Reader) -> Provider:
    registrar = reader.host("registrar")
    provider = Provider(
        registrar=registrar,
        registrar_name=registrar if is_name(registrar) else "",
        registrar_port=reader.whole("registrar_port", 1, 65535, 5060),
        prefixes=reader.prefixes("prefixes", 1),
        media_prefixes=reader.prefixes("media_prefixes", 0),
        further_prefixes=reader.prefixes("further_prefixes", 0),
        ipv6_prefixes=reader.prefixes6("ipv6_prefixes"),
    )
    reader.end()
    return provider


def _voice(reader: Reader) -> Voice:
    voice = Voice(lans=reader.prefixes("lans", 0), resolvers=reader.addresses("resolvers", 0, 4))
    reader.end()
    return voice


def _mail(reader: Reader) -> Mail:
    usual = MailSettings()
    mail = Mail(
        server=reader.address("server"),
        port=reader.whole("port", 1, 65535, 465),
        security=reader.choice("security", ("tls", "starttls"), "tls"),
        server_name=reader.name("server_name", SERVER_NAME, "the name in the mail server's certificate"),
        user=reader.text("user"),
        password_file=reader.file("password_file"),
        ca_file=reader.file("ca_file", ""),
        sender=reader.mailbox("sender"),
        customer=reader.mailboxes("customer"),
        support=reader.mailboxes("support"),
        when=MailSettings(
            delay_s=reader.number("delay_s", 0.0, 90.0, usual.delay_s),
            per_hour_max=reader.whole("per_hour_max", 1, usual.per_hour_max, usual.per_hour_max),
            per_day_max=reader.whole("per_day_max", 1, usual.per_day_max, usual.per_day_max),
        ),
    )
    reader.end()
    return mail


def _whole(site: Site, bad: set[str]) -> Iterator[Problem]:
    """What no single key can know, of the keys that are good by themselves."""
    checks = (
        _check_timezone,
        _check_alias_addresses,
        _check_differences,
        _check_gateways,
        _check_modem_pages,
        _check_voice,
        _check_targets,
    )
    for check in checks:
        for keys, problem in check(site):
            if not bad.intersection((problem.key, *keys)):
                yield problem


Checked = Iterator[tuple[tuple[str, ...], Problem]]  # the other keys that it depends on, and the problem


def _check_timezone(site: Site) -> Checked:
    try:
        zoneinfo.ZoneInfo(site.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        yield (), Problem("site.timezone", shown("", site.timezone), "a time zone such as America/Chicago")


def _alias_addresses(site: Site) -> dict[str, str]:
    found = {f"path.{plain(path.name)}.source": path.source for path in site.paths}
    if site.router.alias_address:
        found["router.alias_address"] = site.router.alias_address
    return found


def _check_alias_addresses(site: Site) -> Checked:
    """Each alias address is a host's in the prefix; the LAN's own addresses are not in it."""
    alias = ipaddress.IPv4Network(site.alias_prefix)
    ends = {alias.network_address, alias.broadcast_address} if alias.prefixlen < 31 else set()
    for key, address in _alias_addresses(site).items():
        if ipaddress.IPv4Address(address) not in alias or ipaddress.IPv4Address(address) in ends:
            expected = f"an address within agent.alias_prefix {alias}, neither its first nor its last"
            yield ("agent.alias_prefix",), Problem(key, repr(address), expected)
    for key, address in (("agent.address", site.agent_address), ("router.address", site.router.address)):
        if ipaddress.IPv4Address(address) in alias:
            expected = f"a small subnet of the agent's own, without {key} {address}"
            yield (key,), Problem("agent.alias_prefix", repr(site.alias_prefix), expected)


def _check_differences(site: Site) -> Checked:
    """Alias addresses and interfaces are each used once."""
    interfaces = {f"path.{plain(path.name)}.interface": path.interface for path in site.paths}
    aliases = _alias_addresses(site)
    router = {key: address for key, address in aliases.items() if key == "router.alias_address"}
    sources = {key: address for key, address in aliases.items() if key not in router}
    for values, what in ((router | sources, "address"), (interfaces, "interface")):
        first: dict[str, str] = {}
        for key, value in values.items():
            if value in first:
                yield (first[value],), Problem(key, shown("", value), f"another {what} than {first[value]} has")
            first.setdefault(value, key)


def _check_gateways(site: Site) -> Checked:
    """A next hop that the router is told is nobody's to write down: it would be out of date some day."""
    for path in site.paths:
        key = f"path.{plain(path.name)}"
        if path.kind != STATIC and path.gateway:
            expected = f"no gateway with kind = {path.kind!r}: the router is told it"
            yield (f"{key}.kind",), Problem(f"{key}.gateway", repr(path.gateway), expected)


def _check_modem_pages(site: Site) -> Checked:
    """The modem's own network is at its port; what is elsewhere could not be reached any more."""
    alias = ipaddress.IPv4Network(site.alias_prefix)
    for path in site.paths:
        if not path.modem_page:
            continue
        key, network = f"path.{plain(path.name)}.modem_page", ipaddress.IPv4Interface(path.modem_page).network
        expected = f"an address in the modem's own network, which is not {network} of"
        for other, address in (("agent.address", site.agent_address), ("router.address", site.router.address)):
            if ipaddress.IPv4Address(address) in network:
                yield (other,), Problem(key, repr(path.modem_page), f"{expected} {other} {address}")
        if network.overlaps(alias):
            where = f"{expected} agent.alias_prefix {alias}"
            yield ("agent.alias_prefix",), Problem(key, repr(path.modem_page), where)


def _check_voice(site: Site) -> Checked:
    """The prefixes hold the registrar, and nothing of the site itself; the phones' subnets nothing of the provider."""
    own = {"agent.address": site.agent_address, "router.address": site.router.address, **_alias_addresses(site)}
    for where in ("prefixes", "media_prefixes", "further_prefixes"):
        for prefix in map(ipaddress.IPv4Network, getattr(site.provider, where)):
            for key, address in own.items():
                if ipaddress.IPv4Address(address) in prefix:
                    expected = f"prefixes without the site's own {key} {address}, else its own packets count as voice"
                    yield (key,), Problem(f"provider.{where}", repr(str(prefix)), expected)
            for lan in map(ipaddress.IPv4Network, site.voice.lans):
                if lan.overlaps(prefix):
                    expected = f"the phones' own subnets, which do not overlap provider.{where} {prefix}"
                    yield (f"provider.{where}",), Problem("voice.lans", repr(str(lan)), expected)
    for resolver in site.voice.resolvers:
        if resolver in {path.source for path in site.paths} | {site.agent_address, site.router.address}:
            yield (), Problem("voice.resolvers", repr(resolver), "resolvers beyond the line, not the site's own")
    registrar = site.provider.registrar
    if is_name(registrar):  # whose address is not known yet
        if not site.voice.resolvers:
            expected = "an address, or voice.resolvers that can be asked for the name"
            yield ("voice.resolvers",), Problem("provider.registrar", repr(registrar), expected)
    elif not site.provider.holds(registrar):
        expected = "an address within provider.prefixes, else its calls would not be moved"
        yield (
            ("provider.prefixes", "provider.media_prefixes", "provider.further_prefixes"),
            Problem("provider.registrar", repr(registrar), expected),
        )


def _check_targets(site: Site) -> Checked:
    registrar = site.provider.registrar
    for path in site.paths:
        for name in filter(is_name, path.targets):
            if name != registrar:
                key = f"path.{plain(path.name)}.targets"
                expected = f"addresses; the only name may be provider.registrar {registrar}"
                yield ("provider.registrar",), Problem(key, shown("", name), expected)
    for path in site.paths[:1]:
        if path.name == "primary" and registrar not in path.targets:
            expected = f"provider.registrar {registrar} among them: the line matters as far as it reaches the provider"
            found = ", ".join(path.targets)
            yield ("provider.registrar",), Problem("path.primary.targets", shown("", found), expected)
