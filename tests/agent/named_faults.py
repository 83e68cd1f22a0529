"""One fault of the agent's surroundings, in a network of its own: ``python -m tests.agent.named_faults CODE FOLDER``.

Starts a router and the agent's process, spoils what the code names, and prints as JSON what the agent's status says of
it, what it says two seconds later and while it probes, and its log. Every address of the loopback net answers pings
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeagent.config.site import load
from tests.adapters.certificates import certificate
from tests.agent.support import GOOD, Rig, rig
from tests.agent.test_provision import provisioned
from tests.agent.test_status import write_site

GUARD_S = 300.0  # no claim: it ends what would hang
Spoil = Callable[[Rig, Path, str], str]


def wrong_password(_on: Rig, folder: Path, text: str) -> str:
    (folder / "router.password").write_text("wrong")
    return text


def no_password(_on: Rig, folder: Path, text: str) -> str:
    (folder / "router.password").unlink()
    return text


def wrong_certificate(_on: Rig, folder: Path, text: str) -> str:
    other = folder / "other"
    other.mkdir()
    (folder / "other.pem").write_text(certificate(other, "127.0.0.1")[1])
    return text.replace(f"{folder}/router.crt", f"{folder}/other.pem")


def lost_policy(on: Rig, _folder: Path, text: str) -> str:
    on.strike("lost_policy", "/ip/firewall/address-list/", policy="write")
    return text


def unlisted_version(on: Rig, _folder: Path, text: str) -> str:
    on.router.store._settings["/system/resource"]["version"] = "8.1 (stable)"
    return text


def untested_version(on: Rig, _folder: Path, text: str) -> str:
    on.router.store._settings["/system/resource"]["version"] = "7.99 (stable)"
    return text


def further_prefix(_on: Rig, _folder: Path, text: str) -> str:
    return text.replace("[provider]\n", '[provider]\nfurther_prefixes = ["203.0.113.128/25"]\n')


def no_alias(_on: Rig, _folder: Path, text: str) -> str:
    return text.replace("127.9.9", "198.18.9")


def no_disk(_on: Rig, folder: Path, text: str) -> str:
    shutil.rmtree(folder / "state")
    (folder / "state").write_text("a file where a folder should be")
    return text


SPOILERS: dict[str, Spoil] = {
    "router_login_refused": wrong_password,
    "router_unusable": no_password,
    "router_untrusted": wrong_certificate,
    "router_policy_missing": lost_policy,
    "router_version_unlisted": unlisted_version,
    "router_version_untested": untested_version,
    "router_rules_not_applied": further_prefix,
    "alias_missing": no_alias,
    "store_failed": no_disk,
    "none": lambda _on, _folder, text: text,
}


async def status(folder: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(folder / "control.sock"))
    found: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return found


async def raised(folder: Path, code: str) -> dict[str, Any]:
    """The status once the fault is there, or once the primary is up where none is expected."""
    async with asyncio.timeout(GUARD_S):
        while True:
            with contextlib.suppress(OSError, ValueError):
                found = await status(folder)
                if code in found["faults"] or (code == "none" and found["paths"]["primary"]["verdict"] == "up"):
                    return found
            await asyncio.sleep(0.05)


async def probing(folder: Path) -> dict[str, Any]:
    """The status as soon as an answer of the last two seconds counts for the primary: it is asked once a second."""
    async with asyncio.timeout(GUARD_S):
        while True:
            found = await status(folder)
            primary = found["paths"]["primary"]
            if primary["verdict"] == "up" and primary["answered_ago_s"] < 1.9:
                return found
            await asyncio.sleep(0.05)


async def main(code: str, folder: Path) -> dict[str, Any]:
    async with rig(folder) as on:
        site = write_site(folder, GOOD.replace("port = 8729", f"port = {on.port}"))
        await provisioned(load(site), "apply")
        site.write_text(SPOILERS[code](on, folder, site.read_text()))
        if code == "alias_missing":  # other addresses mean other rules
            await provisioned(load(site), "apply")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edgeagent", "--site", str(site), "run", stderr=asyncio.subprocess.PIPE
        )
        try:
            first = await raised(folder, code)
            await asyncio.sleep(2.0)
            later = await probing(folder) if code != "alias_missing" else await status(folder)
        finally:
            process.terminate()
            log = (await process.communicate())[1].decode()
        return {"first": first, "later": later, "log": log, "leases": sorted(map(list, on.leases()))}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))))
