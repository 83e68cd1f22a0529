"""What a router must be like before the agent's access is brought into it: the questions, and the judgement. Pure.

Questions are console lines that 6.49 and 7 both take. Each prints ``field=value`` line by line, so that no layout of
``print`` has to be read, which differs from version to version.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from edgeagent.routeros import versions
from edgeagent.routeros.errors import RouterProtocolError
from edgeagent.routeros.obstacles import Exits, overlaps
from edgeagent.routeros.rows import TAG

Rows = list[dict[str, str]]
# What the bootstrap does with its own hands; api because nobody can grant what he has not, sensitive because a backup
# without it would leave keys out.
NEEDED_POLICIES = ("api", "ftp", "policy", "read", "sensitive", "ssh", "test", "write")
# A backup of a small office's router has 30 to 300 KiB; the export, a certificate and two scripts add little. Where
# there is a folder flash the files go to memory, as the root is a RAM disk there (boards with 16 MB such as the hAP
# ac2); the flash itself then takes the new rows and the certificate's key, some KiB.
SPACE_BYTES = 1024 * 1024
FLASH_BYTES = 64 * 1024
CLOCK_WRONG_S, CLOCK_ODD_S = 86_400.0, 300.0
FIRST_DEVICE_MODE = (7, 17)


class Question(Struct, frozen=True):
    """What to ask of one menu. ``of``: the service meant, or a record's menu where it is empty; None: every row."""

    menu: str
    fields: tuple[str, ...]
    of: str | None = None
    where: str = ""

    @property
    def line(self) -> str:
        """The console line."""
        if self.of == "":
            return "; ".join(f':put "{field}=$[{self.menu} get {field}]"' for field in self.fields)
        shown = "; ".join(f':put "{field}=$[{self.menu} get $edgeRow {field}]"' for field in self.fields)
        if self.of is not None:
            return f"{service_found(self.of)}; :foreach edgeRow in=$edgeService do={{ {shown} }}"
        which = f" where {self.where}" if self.where else ""
        return f":foreach edgeRow in=[{self.menu} find{which}] do={{ {shown} }}"


def service_found(name: str) -> str:
    """Console words that put the row by which a service is configured into ``$edgeService``.

    From 7.19 on every connection to a service stands in the menu too, as a dynamic row of the service's name that
    refuses to be set (changelog of 7.19). Versions before have no ``dynamic`` there, and what ``find`` makes of a
    property that a menu has not is written nowhere: it is asked for only where there are several rows.
    """
    named = f'/ip service find where name="{name}"'
    several = f":if ([:len $edgeService] > 1) do={{ :set edgeService [{named} and dynamic=no] }}"
    return f":local edgeService [{named}]; {several}"


QUESTIONS = {
    "resource": Question("/system resource", ("version", "free-hdd-space", "free-memory"), of=""),
    "flash": Question("/file", ("name",), where='name="flash"'),
    "clock": Question("/system clock", ("date", "time", "gmt-offset"), of=""),
    "user": Question("/user", ("name", "group", "address", "disabled", "comment")),
    "group": Question("/user group", ("name", "policy")),
    "api": Question("/ip service", ("port", "address", "disabled"), of="api"),
    "api-ssl": Question("/ip service", ("port", "address", "certificate", "disabled"), of="api-ssl"),
    "address": Question("/ip address", ("address", "interface", "disabled", "comment")),
    # Of what is learnt (a provider's whole table, it may be) only a default matters.
    "route": Question(
        "/ip route", ("dst-address", "gateway", "disabled", "comment"), where="dynamic=no or dst-address=0.0.0.0/0"
    ),
    "dhcp": Question("/ip dhcp-client", ("interface", "add-default-route", "disabled")),
    "member": Question("/interface list member", ("list", "interface", "disabled")),
    "certificate": Question("/certificate", ("name", "fingerprint", "private-key")),
    "job": Question("/system scheduler", ("name",)),
}
DEVICE_MODE = Question("/system device-mode", ("mode", "scheduler", "flagged"), of="")

Found = dict[str, Rows]


class Site(Struct, frozen=True):
    """What the judgement needs of site.toml. ``backups``: port, gateway and modem_page of each path but the primary."""

    port: int
    user: str
    group: str
    certificate: str
    alias_prefix: str
    backups: tuple[tuple[str, str, str], ...]


class Finding(Struct, frozen=True):
    """Something that a person must know; its words stand in the texts under ``bootstrap CODE``."""

    code: str
    values: dict[str, str | int]
    blocks: bool


def answer(question: Question, printed: str) -> Rows:
    """The rows in what a router printed. Raises RouterProtocolError for anything else, such as a complaint."""
    rows: Rows = []
    at = 0
    for line in printed.split("\n") if printed else ():
        field = question.fields[at % len(question.fields)]
        if line.startswith(f"{field}="):
            if at % len(question.fields) == 0:
                rows.append({})
            rows[-1][field] = line.removeprefix(f"{field}=")
            at += 1
        elif at:  # a comment of several lines
            rows[-1][question.fields[(at - 1) % len(question.fields)]] += f"\n{line}"
        else:
            raise RouterProtocolError(f"the router answered a question about {question.menu} by: {line[:200]}")
    if at % len(question.fields):
        raise RouterProtocolError(f"the router's answer about {question.menu} ended too early: {printed[-200:]}")
    if question.of is not None and len(rows) != 1:
        raise RouterProtocolError(f"the router has {len(rows)} rows of {question.menu} {question.of}; expected one")
    return rows


def flag(value: str) -> bool:
    """Whether a flag that the router printed is set."""
    return value in ("true", "yes")


def policies(text: str) -> set[str]:
    """The policies that a group's text grants."""
    return {name for name in re.split("[;,]", text) if name and not name.startswith("!")}


def jobs_allowed(found: Found) -> bool:
    """Whether the router may run jobs; device-mode forbids them on boards as they leave the factory today."""
    mode = _record(found, "device-mode")
    return mode.get("scheduler", "true") in ("true", "yes") and not flag(mode.get("flagged", "false"))


def judge(found: Found, site: Site, login: str, wall: datetime | None, *, known: bool) -> list[Finding]:
    """Everything that stands in the way, and everything that is worth a warning. ``login``: who asked; ``wall``: our
    time of day, None where the clock was never set; ``known``: whether it was us who put there what bears our names.
    """
    return [
        *_version(found),
        *_policies(found, login),
        *_device_mode(found),
        *_space(found),
        *_clock(found, wall),
        *_services(found, site),
        *_subnets(found, site),
        *_backups(found, site),
        *([] if known else _names(found, site)),
    ]


def _record(found: Found, name: str) -> dict[str, str]:
    rows = found.get(name, [])
    return rows[0] if rows else {}


def _version(found: Found) -> Iterator[Finding]:
    version = _record(found, "resource")["version"]
    if versions.standing(version) == versions.UNTESTED:
        yield Finding("version untested", {"version": version}, blocks=False)


def _policies(found: Found, login: str) -> Iterator[Finding]:
    group = next((row["group"] for row in found["user"] if row["name"] == login), "")
    held = policies(next((row["policy"] for row in found["group"] if row["name"] == group), ""))
    if missing := [name for name in NEEDED_POLICIES if name not in held]:
        values: dict[str, str | int] = {"user": login, "group": group or "(none)", "missing": ", ".join(missing)}
        yield Finding("policies", values, blocks=True)


def _device_mode(found: Found) -> Iterator[Finding]:
    if not jobs_allowed(found):
        mode = _record(found, "device-mode")
        flagged = ", flagged" if flag(mode["flagged"]) else ""
        yield Finding("device-mode", {"mode": f"{mode['mode']}{flagged}"}, blocks=False)


def _space(found: Found) -> Iterator[Finding]:
    record = _record(found, "resource")
    needs = [("space", "free-hdd-space", SPACE_BYTES)]
    if found["flash"]:
        needs = [("flash", "free-hdd-space", FLASH_BYTES), ("memory", "free-memory", SPACE_BYTES)]
    for code, name, need in needs:
        free = record[name]
        if free.isdigit() and int(free) < need:
            yield Finding(code, {"free": int(free) // 1024, "need": need // 1024}, blocks=True)


def _clock(found: Found, wall: datetime | None) -> Iterator[Finding]:
    record = _record(found, "clock")
    shown = f"{record['date']} {record['time']}"
    theirs = router_time(record)
    if wall is None:
        yield Finding("clock unknown", {"theirs": shown}, blocks=False)
        return
    ours = f"{wall:%Y-%m-%d %H:%M:%S}"
    off_s = None if theirs is None else abs((theirs - wall).total_seconds())
    if off_s is None or off_s > CLOCK_WRONG_S:
        yield Finding("clock wrong", {"theirs": shown, "ours": ours}, blocks=True)
    elif off_s > CLOCK_ODD_S:
        yield Finding("clock odd", {"theirs": shown, "ours": ours}, blocks=False)


def router_time(record: dict[str, str]) -> datetime | None:
    """The router's time of day in UTC; None where it cannot be read. 6 and early 7 write ``nov/25/2026``."""
    text = f"{record['date']} {record['time']}"
    for form in ("%Y-%m-%d %H:%M:%S", "%b/%d/%Y %H:%M:%S"):
        try:
            local = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return local - _offset(record["gmt-offset"])
    return None


def _offset(text: str) -> timedelta:
    """``+02:00`` as it is printed, or seconds as some versions hand it to scripts."""
    if found := re.fullmatch(r"([+-]?)(\d\d):(\d\d)(?::\d\d)?", text):
        size = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return -size if found[1] == "-" else size
    return timedelta(seconds=int(text)) if re.fullmatch(r"-?\d{1,5}", text) else timedelta()


def _services(found: Found, site: Site) -> Iterator[Finding]:
    ours, plain = _record(found, "api-ssl"), _record(found, "api")
    if ours["port"] != str(site.port):
        yield Finding("port", {"found": ours["port"], "expected": site.port}, blocks=True)
    if not flag(ours["disabled"]) and ours["certificate"] not in ("", "none", site.certificate):
        values: dict[str, str | int] = {"certificate": ours["certificate"], "address": ours["address"] or "any"}
        yield Finding("service in use", values, blocks=False)
    if not flag(plain["disabled"]) and plain["address"] in ("", "0.0.0.0/0"):
        yield Finding("plain api", {"port": plain["port"]}, blocks=False)


def _subnets(found: Found, site: Site) -> Iterator[Finding]:
    alias = ipaddress.IPv4Network(site.alias_prefix)
    for row in _enabled(found["address"]):
        try:
            network = ipaddress.IPv4Interface(row["address"]).network
        except ValueError:
            continue
        if network.overlaps(alias) and not row["comment"].startswith(TAG):
            values: dict[str, str | int] = {**_place(row), "address": row["address"], "prefix": site.alias_prefix}
            yield Finding("subnet", values, blocks=True)
    for port, _, page in site.backups:
        for one in overlaps(found["address"], port, page):
            where: dict[str, str | int] = {"interface": port, "address": one.address}
            yield Finding("networks doubled", {**where, "other": one.other, "at": one.other_port}, blocks=True)


def _backups(found: Found, site: Site) -> Iterator[Finding]:
    """A backup's port must be nobody's way into the internet but ours: everything would leave by it."""
    for port, gateway, _ in site.backups:
        for row in Exits(found["route"], found["address"], port, gateway).wide():
            way: dict[str, str | int] = {"destination": row["dst-address"], "gateway": row["gateway"]}
            yield Finding("default route", {"interface": port, **way}, blocks=True)
        for row in _enabled(found["dhcp"]):
            if row["interface"] == port and row["add-default-route"] not in ("no", "false"):
                yield Finding("default by dhcp", {"interface": port}, blocks=True)
        for row in _enabled(found["member"]):
            if row["interface"] == port and row["list"] == "WAN":
                yield Finding("wan list", {"interface": port}, blocks=True)


def _names(found: Found, site: Site) -> Iterator[Finding]:
    """What bears a name of ours and is not known to be ours."""
    for name, what in ((site.user, "user"), (site.group, "group"), (site.certificate, "certificate")):
        rows = [row for row in found[what] if row["name"] == name]
        if rows and not rows[0].get("comment", "").startswith(TAG):
            yield Finding("name taken", {"what": what, "name": name}, blocks=True)


def _enabled(rows: Rows) -> Rows:
    return [row for row in rows if not flag(row["disabled"])]


def _place(row: dict[str, str]) -> dict[str, str | int]:
    return {"interface": row["interface"]}
