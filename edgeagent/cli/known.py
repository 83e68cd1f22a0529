"""What is known of the site that must not be told: read from its files, for the redactor."""

from __future__ import annotations

import functools
import os
import re
import stat
from pathlib import Path

from msgspec import Struct

import edgeagent
from edgeagent.config.redact import Known
from edgeagent.config.site import Site

SECRET_MAX_BYTES = 65536
SECRET_ENDS = (".key", ".password", ".secret", ".token")
# As lenient as can be: the file may be broken, and a secret that it names must be known all the same.
NAMED_FILE = re.compile(rb"=[ \t]*[\"']([^\"'\n]*/[^\"'\n]+)[\"']")
QUOTED = re.compile(rb"^[ \t]*(\w+)[ \t]*=[ \t]*(.*)$", re.MULTILINE)
STRING = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'([^'\n]*)'")
WORD = r"[A-Za-z]{2,}"
PERSONAL = (b"name", b"user", b"sender", b"customer", b"support")


class Secrets(Struct, frozen=True):
    """``values``: what each file holds. ``unread``: files whose contents are unknown, and why."""

    values: dict[str, str]
    unread: dict[str, str]


def secrets(site_file: Path, *state_folder: Path) -> Secrets:
    """The contents of every file that ``site_file`` names, of keys beside it and beside the store, of credentials.

    The agent itself leaves the store's folder out: a disk that hangs must not keep it from starting.
    """
    values: dict[str, str] = {}
    unread: dict[str, str] = {}
    for path in sorted(_secret_files(site_file, [site_file.parent, *state_folder])):
        try:
            if stat.S_ISREG(path.stat().st_mode):  # a socket or a folder holds no secret
                with path.open("rb") as file:
                    values[str(path)] = file.read(SECRET_MAX_BYTES).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            continue  # nothing to be betrayed
        except OSError as error:
            unread[str(path)] = error.strerror or type(error).__name__
    return Secrets(values, unread)


def unparsed(site_file: Path, values: dict[str, str]) -> Known:
    """Where the file is broken: what its text tells of names, accounts and mail addresses."""
    names = tuple(name for name in _personal(site_file) if name != "edgeagent")
    return Known(secrets=values, names=names, words=program_words())


def known(site: Site, values: dict[str, str]) -> Known:
    """``values``: secrets, by where they stand."""
    addresses = {site.agent_address, site.router.address, site.router.alias_address, site.provider.registrar}
    addresses |= {site.mail.server, site.alias_prefix.partition("/")[0]}
    addresses |= {prefix.partition("/")[0] for prefix in (*site.provider.voice, *site.voice.lans)}
    addresses.update(site.voice.resolvers)
    for path in site.paths:
        addresses |= {path.gateway, path.source, path.modem_page.partition("/")[0], *path.targets}
    addresses -= {"", site.provider.registrar_name}
    mail = site.mail
    names = (site.name, mail.user, mail.sender, *mail.customer, *mail.support)
    ours = {site.id, site.router.user}
    files = (site.router.password_file, site.router.certificate, mail.password_file, mail.ca_file)
    words = [
        site.state_folder,
        site.control_socket,
        site.provider.registrar_name,
        *files,
        *(f"{path.name} {path.interface}" for path in site.paths),
    ]
    return Known(
        site=site.id,
        secrets=values,
        names=tuple(name for name in names if name not in ours),
        own=frozenset(addresses),
        words=program_words().union(re.findall(WORD, " ".join(words))),
    )


@functools.cache
def program_words() -> frozenset[str]:
    """Every word in the program's own sources, of its packages and of the system's error texts."""
    found: set[str] = set()
    for text in (*_library_words(), *(os.strerror(number) for number in range(1, 134))):
        found.update(re.findall(WORD, text))
    for path in sorted(Path(edgeagent.__path__[0]).rglob("*.py")):
        with path.open(errors="replace") as file:
            for line in file:  # the agent keeps what it once took, so it takes little at a time
                found.update(re.findall(WORD, line))
    return frozenset(found)


def _library_words() -> list[str]:
    import builtins
    import sys

    return [
        *sys.stdlib_module_names,
        *dir(builtins),
        "librouteros aiosmtplib msgspec psutil venv lib python site packages",
    ]


def _secret_files(site_file: Path, folders: list[Path]) -> set[Path]:
    if handed := os.environ.get("CREDENTIALS_DIRECTORY"):
        folders.append(Path(handed))
    found = {
        path for folder in folders for path in _inside(folder) if path.suffix in SECRET_ENDS or str(folder) == handed
    }
    try:
        raw = site_file.read_bytes()[:SECRET_MAX_BYTES]
    except OSError:
        return found
    return found | {Path(os.fsdecode(name)) for name in NAMED_FILE.findall(raw) if b"\0" not in name}


def _inside(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []


def _personal(site_file: Path) -> tuple[str, ...]:
    """Names, accounts and mail addresses from the text of a file that cannot be parsed."""
    try:
        raw = site_file.read_bytes()[:SECRET_MAX_BYTES]
    except OSError:
        return ()
    texts = [value.decode("utf-8", "replace") for key, value in QUOTED.findall(raw) if key in PERSONAL]
    return tuple(match[1] or match[2] for text in texts for match in STRING.finditer(text) if match[1] or match[2])
