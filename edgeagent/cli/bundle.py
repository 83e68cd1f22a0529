"""``edgeagent bundle``: one file for the support desk. Nothing is sent anywhere.

It must come about when all else is broken: each part is gathered by itself, within a time of its own, and what could
not be had is told in the manifest.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from edgeagent import texts
from edgeagent.cli.declare import Commands, command

if TYPE_CHECKING:
    from edgeagent.cli.evidence import Evidence, Part

FORMAT = 1
PART_MAX_BYTES = 1 << 20
BUNDLE_MAX_BYTES = 4 << 20  # before it is compressed; a mail server takes ten
MANIFEST = "MANIFEST.txt"


class File(Struct):
    """One file of the bundle. ``left_out``: bytes from its beginning that found no room."""

    name: str
    content: bytes
    left_out: int = 0


def add(commands: Commands) -> None:
    """Declare the command."""
    found = command(commands, "bundle", main)
    found.add_argument("--output", type=Path, metavar="FILE", help=texts.help_of("bundle --output"))


def main(arguments: argparse.Namespace) -> int:
    """0 where all is in it; 1 where something is missing, or a secret was found and nothing was written; 2 cannot."""
    from edgeagent.cli.evidence import Evidence
    from edgeagent.config.redact import found_secrets, searchable
    from edgeagent.host import clock

    evidence = Evidence(arguments.site)
    at = clock.wall()
    stem = f"edgeagent-{evidence.site_id}-{_stamp(at)}"
    files = fitted(evidence.parts())
    files.insert(0, File(MANIFEST, manifest(evidence, files, _stamp(at)).encode()))
    secrets = searchable(evidence.secrets.values)
    betrayed = [file.name for file in files if found_secrets(file.content, secrets)]
    if betrayed:
        print(texts.screen("bundle refused", name=", ".join(betrayed)), file=sys.stderr)
        return 1
    output: Path = arguments.output or Path(f"{stem}.tar.gz")
    content = packed(stem, files, 0 if at is None else int(at.timestamp()))
    try:
        _write(output, content)
    except OSError as error:
        print(texts.screen("bundle not written", file=str(output), why=error.strerror or str(error)), file=sys.stderr)
        return 2
    print(texts.screen("bundle written", file=str(output), count=len(content) // 1024 + 1))
    for line in evidence.missing:
        print(texts.screen("bundle missing", what=line))
    return 1 if evidence.missing else 0


def fitted(parts: list[Part]) -> list[File]:
    """The parts as files, each cut to what fits. Of those that grow the end is kept: it is the latest."""
    room, files = BUNDLE_MAX_BYTES, []
    for part in parts:
        content = part.text.encode()
        most = min(room, PART_MAX_BYTES)
        left_out = max(0, len(content) - most)
        if left_out:
            left_out += content[left_out:].find(b"\n") + 1  # whole lines
        files.append(File(part.name, content[left_out:], left_out))
        room -= len(files[-1].content)
    return files


def packed(stem: str, files: list[File], at: int) -> bytes:
    """A tar in which only contents and time tell one bundle from another."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in files:
            row = tarfile.TarInfo(f"{stem}/{file.name}")
            row.size, row.mtime, row.mode = len(file.content), at, 0o600
            tar.addfile(row, io.BytesIO(file.content))
    return gzip.compress(raw.getvalue(), mtime=at)


def _write(path: Path, content: bytes) -> None:
    """A new file that only its owner reads; never over another. One that could not be written whole is taken away."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _stamp(at: datetime | None) -> str:
    return "clock-unset" if at is None else at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def manifest(evidence: Evidence, files: list[File], stamp: str) -> str:
    """What the bundle holds, what it lacks, and what was withheld, for a person."""
    found = [texts.screen("manifest head", version=FORMAT, what=stamp), "", texts.screen("manifest files")]
    for file in files:
        found.append(_row(file.name, len(file.content), "manifest"))
        if file.left_out:
            found.append(texts.screen("manifest left out", count=file.left_out))
    found += [texts.screen("manifest absent", name=name) for name in evidence.absent]
    found += ["", texts.screen("manifest missing" if evidence.missing else "manifest complete")]
    found += [f"  {line}" for line in evidence.missing]
    found += ["", texts.screen("manifest redacted")]
    redactor = evidence.redactor
    found += [_row(kind, count, "withheld") for kind, count in sorted(redactor.withheld.items())]
    found += [_row(name, count, "alias") for name, count in sorted(redactor.aliases.items())]
    found += [texts.screen("manifest short secret", file=where) for where in evidence.short_secrets]
    return "\n".join([*found, texts.screen("manifest end")]) + "\n"


def _row(name: str, count: int, group: str) -> str:
    return f"  {name:<14} {count:>8}  {texts.screen(f'{group} {name}')}"
