"""The agent's access to a router: its group, its user, the certificate of api-ssl, who may come in. Pure.

What is there is compared with what is wanted, and console lines make the difference; 6.49 and 7 both take them. Lines
that hold a secret stand in a file that is imported, for a console may write what it is told into a log.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from edgeagent.routeros.inspection import Found, flag, policies, service_found
from edgeagent.routeros.rows import TAG

GROUP = CERTIFICATE = "edgeagent"
COMMENT = f"{TAG}access"
POLICIES = ("api", "read", "test", "write")
JOB = "edgeagent-rollback"
JOB_POLICIES = "ftp,read,write,policy,test"  # files, all rows, users, and what the group that it removes may do
FILE = "edgeagent-access"  # how the names of our short-lived files on the router begin
BACKUP = "edgeagent-backup"
FACTORY = {"address": "", "certificate": "none", "disabled": "no"}
IMPORTED = "Script file loaded and executed successfully"
PARTS = ("group", "user", "certificate", "service")  # in the order in which they are made


class Access(Struct, frozen=True):
    """What is wanted. ``agent``: its address; ``fingerprint``: of the pinned certificate (SHA-256, hexadecimal), empty
    where there is none yet.
    """

    user: str
    agent: str
    fingerprint: str


def lacking(found: Found, access: Access) -> list[str]:
    """The parts that are not as wanted."""
    good = {
        "group": any(row["name"] == GROUP and policies(row["policy"]) == set(POLICIES) for row in found["group"]),
        "user": any(_is_user(row, access) for row in found["user"]),
        "certificate": any(
            row["name"] == CERTIFICATE
            and row["fingerprint"].replace(":", "").lower() == access.fingerprint
            and flag(row["private-key"])
            for row in found["certificate"]
        ),
        "service": _is_service(found["api-ssl"][0], access),
    }
    return [part for part in PARTS if not good[part]]


def there(found: Found, user: str) -> list[str]:
    """The parts that we have on the router, good or not."""
    parts = {
        "group": any(row["name"] == GROUP for row in found["group"]),
        "user": has_user(found, user),
        "certificate": any(row["name"] == CERTIFICATE for row in found["certificate"]),
        "service": found["api-ssl"][0]["certificate"] == CERTIFICATE,
    }
    return [part for part in PARTS if parts[part]]


def has_user(found: Found, user: str) -> bool:
    """Whether the agent's user is there and is ours."""
    return any(row["name"] == user and row["comment"].startswith(TAG) for row in found["user"])


def armed(found: Found) -> bool:
    """Whether a rollback waits in the router."""
    return any(row["name"] == JOB for row in found["job"])


def service(found: Found) -> dict[str, str]:
    """What of api-ssl we change, as it is, in words by which it can be set again: a script gets others to read."""
    row = found["api-ssl"][0]
    return {
        "address": row["address"].replace(";", ","),
        "certificate": row["certificate"] or "none",
        "disabled": "yes" if flag(row["disabled"]) else "no",
    }


def undo_lines(user: str, new: Collection[str], before: Mapping[str, str]) -> list[str]:
    """Console lines that take ``new`` parts away and set api-ssl back. Each may be given again, or find nothing."""
    lines = {
        "service": _service_set(
            f"address={quoted(before['address'])} "
            f"certificate={quoted(before['certificate'])} disabled={before['disabled']}"
        ),
        "certificate": f'/certificate remove [find where name="{CERTIFICATE}" or name~"^{FILE}"]',
        "user": f'/user remove [find where name={quoted(user)} and comment~"^{TAG}"]',
        "group": f'/user group remove [find where name="{GROUP}"]',
    }
    return [line for part, line in lines.items() if part in new or part == "service"]


def arm_line(lines: list[str], after_s: int) -> str:
    """A job that gives these lines after a time, and again until none fails; one that is there already is replaced.

    By interval: a board without a battery cannot be told a date. What is left of our files goes too.
    """
    lines = [*lines, f'/file remove [find where name~"^({FILE}|{BACKUP})"]']
    script = [
        ":local edgeFailed 0",
        *(f":do {{ {line} }} on-error={{ :set edgeFailed 1 }}" for line in lines),
        ':log warning "edgeagent: its new access was not proved in time and is taken away"',
        f':if ($edgeFailed = 0) do={{ /system scheduler remove [find where name="{JOB}"] }}',  # it may end with its row
    ]
    text = quoted("\n".join(script))
    return (
        f"{disarm_line()}; /system scheduler add name={JOB} interval={after_s}s policy={JOB_POLICIES} on-event={text}"
    )


def disarm_line() -> str:
    """Takes the job away."""
    return f'/system scheduler remove [find where name="{JOB}"]'


def group_line(found: Found) -> str:
    """Our group with its policies and no other; what this version has besides is refused by name."""
    offered = {name.lstrip("!") for row in found["group"] for name in re.split("[;,]", row["policy"]) if name}
    policy = ",".join([*POLICIES, *(f"!{name}" for name in sorted(offered - set(POLICIES)))])
    return _made("/user group", f'name="{GROUP}"', f'name="{GROUP}"', f"policy={policy}")


def user_script(access: Access, password: str) -> str:
    """Our user, as a file to import."""
    values = f'group="{GROUP}" address={access.agent}/32 password={quoted(password)} comment="{COMMENT}" disabled=no'
    name = f"name={quoted(access.user)}"
    return f"{_made('/user', name, name, values)}\n"


def certificate_lines(fingerprint: str) -> list[str]:
    """Import of ``FILE.crt`` and ``FILE.key``. An importing router names a certificate after its file, and trusts it.

    Several lines: an import prints what it found, the others nothing.
    """
    return [
        f'/certificate remove [find where name="{CERTIFICATE}" or name~"^{FILE}"]',
        f'/certificate import file-name={FILE}.crt passphrase=""',
        f'/certificate import file-name={FILE}.key passphrase=""',
        f'/certificate set [find where fingerprint="{fingerprint}"] name="{CERTIFICATE}" trusted=no',
    ]


def service_line(access: Access) -> str:
    """api-ssl with our certificate, for the agent's address alone."""
    return _service_set(f'address={access.agent}/32 certificate="{CERTIFICATE}" disabled=no')


def backup_script(name: str, password: str) -> str:
    """An encrypted backup, as a file to import."""
    return f"/system backup save name={quoted(name)} password={quoted(password)} encryption=aes-sha256\n"


def export_line(name: str) -> str:
    """The configuration as text, without its secrets: 6 would write them."""
    return f"/export hide-sensitive file={quoted(name)}"


def quoted(text: str) -> str:
    """A text as the console reads it back unchanged, whatever is in it."""
    return '"' + re.sub(r"[^ !#%->@-\[\]-~]", _escaped, text) + '"'


def hidden(text: str, secrets: Iterable[str]) -> str:
    """A router's words without these, whether it quotes them as they are or as they stood in a script."""
    for secret in secrets:
        for shape in (quoted(secret)[1:-1], secret):
            text = text.replace(shape, "***") if shape else text
    return text


def _escaped(found: re.Match[str]) -> str:
    known = {'"': '\\"', "\\": "\\\\", "$": "\\$"}
    return known.get(found.group()) or "".join(f"\\{byte:02X}" for byte in found.group().encode())


def _made(menu: str, chosen: str, name: str, values: str) -> str:
    """Add a row, or set it where it is there already."""
    return (
        f":if ([:len [{menu} find where {chosen}]] = 0) do={{ {menu} add {name} {values} }} "
        f"else={{ {menu} set [find where {chosen}] {values} }}"
    )


def _service_set(values: str) -> str:
    return f"{service_found('api-ssl')}; /ip service set $edgeService {values}"


def _is_user(row: Mapping[str, str], access: Access) -> bool:
    ours = row["name"] == access.user and row["group"] == GROUP and row["comment"].startswith(TAG)
    return ours and not flag(row["disabled"]) and _only(row["address"], access.agent)


def _is_service(row: Mapping[str, str], access: Access) -> bool:
    return row["certificate"] == CERTIFICATE and not flag(row["disabled"]) and _only(row["address"], access.agent)


def _only(prefixes: str, address: str) -> bool:
    """Whether one address may come in and nobody else."""
    try:
        return ipaddress.IPv4Network(prefixes) == ipaddress.IPv4Network(address)
    except ValueError:
        return False
