"""What ``make wheels`` makes, and wheels of other versions made from it: with another number, and broken on purpose."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "0.1.0"


def make(folder: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    """Run ``make-wheels`` with this interpreter's pip."""
    environment = {**os.environ, "PIP": str(Path(sys.executable).with_name("pip"))}
    command = [str(ROOT / "provisioning" / "make-wheels"), str(folder), *targets]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)


def variant(dist: Path, folder: Path, version: str, replace: Mapping[str, tuple[str, str]]) -> None:
    """A folder as ``make wheels`` fills it, for another version; in each file named one text is replaced by another."""
    folder.mkdir()
    for path in dist.iterdir():
        if not path.name.startswith(("edgeagent-", "SHA256SUMS")):
            (folder / path.name).hardlink_to(path)
    base = next(dist.glob("edgeagent-*.whl"))
    former = base.name.split("-")[1]
    record: list[str] = []
    with zipfile.ZipFile(base) as old, zipfile.ZipFile(folder / f"edgeagent-{version}-py3-none-any.whl", "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            name = entry.filename.replace(f"edgeagent-{former}", f"edgeagent-{version}")
            if name.endswith("/RECORD"):
                continue
            if name.endswith("/METADATA"):
                content = content.replace(f"\nVersion: {former}\n".encode(), f"\nVersion: {version}\n".encode())
            if name in replace:
                before, after = replace[name]
                assert before.encode() in content, f"{name} has no {before!r}: this test is out of date"
                content = content.replace(before.encode(), after.encode())
            entry.filename = name
            new.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        name = f"edgeagent-{version}.dist-info/RECORD"
        new.writestr(name, "\n".join([*record, f"{name},,"]) + "\n")
