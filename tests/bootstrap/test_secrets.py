"""Clause X4: what was generated, and what the owner gave, stands where it must and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import run
from tests.bootstrap.support import OWNER_PASSWORD, Done, Site, place

CONTROL = {
    "the screen": "Connected to the router",
    "command line and environment": "--ssh-password-file",
    "the router's log": "logged in",
    "the router's events": "/system scheduler add",
    "the router's history": "/user",
    "the export": "/ip firewall",
    "the router's files": "",
    "the store": "router access",
    "the kept export": "/ip firewall",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ends", ["well", "refused", "cut", "killed"])
def test_no_secret_is_seen_on_the_way_clause_x4(tmp_path: Path, version: Version, ends: str) -> None:
    """How it ends is decided at the second import, which brings the agent's user in."""

    async def test() -> None:
        async with place(tmp_path, version) as site:
            site.heard.at_line = _ending(site, ends)
            done = await site.bootstrap()
            assert (done.code == 0) == (ends == "well"), done.said
            # A file whose removal was cut off goes with the next run, or with the rollback.
            await _search(site, done, {"the router's files"} if ends in ("cut", "killed") else set())
            site.heard.at_line = lambda line: None
            again = await site.bootstrap()
            assert again.code == 0, again.said
            await _search(site, again, set())

    run(test)


def _ending(site: Site, ends: str) -> Callable[[str], None]:
    imports = 0

    def at_line(line: str) -> None:
        nonlocal imports
        imports += line.startswith("/import")
        if not line.startswith("/import") or imports != 2:
            return
        if ends == "refused":
            site.plane.refuse_next = "failure: not today"
        elif ends == "cut":
            site.router.misbehaviour.add({"kind": "drop_after", "command": "/import", "count": 1})
        elif ends == "killed":
            site.kill()

    return at_line


async def _search(site: Site, done: Done, allowed: set[str]) -> None:
    told = await _told(site, done)
    for name, secret in _secrets(site).items():
        places = {where for where, text in told.items() if secret in text}
        assert places == (allowed if name == "router.password" else set()), name
    for where, text in told.items():  # the control: each was looked into
        assert CONTROL[where] in text, where
    if done.code == 0:
        assert len(site.password_file.read_text()) > 30  # and what was searched for is there


def _secrets(site: Site) -> dict[str, str]:
    """Every secret that there is after a run, by its file."""
    found = {"the owner's password": OWNER_PASSWORD}
    for path in (site.password_file, *(site.folder / "state" / "router-backups").glob("*.password")):
        if path.exists():
            found[path.name] = path.read_text().strip()
    keys = [entry.values["key-pem"] for entry in site.router.store.entries("/certificate") if "key-pem" in entry.values]
    found |= {f"key {number}": pem.splitlines()[5] for number, pem in enumerate(keys)}
    assert all(len(secret) > 10 for secret in found.values())
    return found


async def _told(site: Site, done: Done) -> dict[str, str]:
    folder = site.folder / "state"
    export = "/export show-sensitive" if site.router.store.version == "7.22" else "/export"
    return {
        "the screen": done.said,
        "command line and environment": " ".join(done.command_lines).replace("\0", " "),
        "the router's log": site.log(),
        "the router's events": (site.folder / "events.jsonl").read_text(),
        "the router's history": " ".join(str(row) for row in site.rows("/system/history")),
        "the export": await site.console(export),
        "the router's files": " ".join(entry.values["contents"] for entry in site.router.store.entries("/file")),
        "the store": " ".join(path.read_bytes().decode(errors="replace") for path in folder.glob("store.db*")),
        "the kept export": " ".join(path.read_text() for path in (folder / "router-backups").glob("*.rsc")),
    }
