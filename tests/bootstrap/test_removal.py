"""``provision --remove``: the router is as it was, but for the date; and it is said where that is not so yet."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import run, until
from tests.bootstrap.support import Site, bought, place

pytestmark = pytest.mark.slow
ACCESS = {"/user", "/user/group", "/certificate", "service"}
CHANGING = re.compile(r".*/(ip service set|certificate remove|user remove|user group remove|system scheduler remove)")


def _owners(version: Version) -> dict[str, Any]:
    """A router whose owner had api-ssl off, for one network, and a user and a group of his own."""
    rules = bought(version)
    rules["/ip/service"] = [{"name": "api-ssl", "disabled": "yes", "address": "192.0.2.0/24"}]
    rules["/user/group"] = [{"name": "staff", "policy": "read,winbox"}]
    rules["/user"] = [{"name": "anna", "group": "staff", "password": "hers", "comment": "edgeagent is not hers"}]
    return rules


@pytest.mark.parametrize("version", VERSIONS)
def test_with_the_owners_login_everything_is_as_before(tmp_path: Path, version: Version) -> None:
    async def test() -> None:
        async with place(tmp_path, version, _owners(version)) as site:
            before = site.export()
            assert (await site.bootstrap()).code == 0
            assert site.export() != before  # the control: the comparison sees the access
            assert (await site.run("--apply")).code == 0
            removed = await site.run("--remove", *site.bootstrap_words())
            assert removed.code == 0, removed.said
            assert "api-ssl given back" in removed.out
            assert site.export() == before
            assert (await site.bootstrap()).code == 0  # and the other way round again
            assert site.ours() == ACCESS
            assert (await site.run("--remove", *site.bootstrap_words())).code == 0
            assert site.export() == before

    run(test)


@pytest.mark.parametrize("hand", ["/ip/service/set", "/user/add", "/user/group/add", "/file/add"])
def test_the_comparison_bites_at_each_thing_left(tmp_path: Path, hand: str) -> None:
    left = {
        "/ip/service/set": ("=.id=api-ssl", "=address=192.0.2.9/32"),
        "/user/add": ("=name=x", "=group=read"),
        "/user/group/add": ("=name=x", "=policy=read"),
        "/file/add": ("=name=x", "=contents=y"),
    }

    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            before = site.export()
            await site.router.store.sentence([hand, *left[hand]])
            assert site.export() != before

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_without_it_the_service_is_given_back_and_the_rest_is_said(tmp_path: Path, version: Version) -> None:
    async def test() -> None:
        async with place(tmp_path, version, _owners(version)) as site:
            before = site.export()
            assert (await site.bootstrap()).code == 0
            removed = await site.run("--remove")
            assert removed.code == 0, removed.said
            assert site.ours() == ACCESS - {"service"}
            rest = _lines(removed.out)
            assert len(rest) == 3
            again = await site.run("--remove")  # nobody of ours gets in any more: the same, and what it cannot know
            assert (again.code, _lines(again.out)[1:]) == (0, rest), again.said
            for line in _lines(again.out):
                assert await site.console(line) == ""
            assert site.export() == before
            assert (await site.run("--remove", *site.bootstrap_words())).code == 0
            assert site.export() == before

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_connections_to_api_and_api_ssl_hinder_neither_way(tmp_path: Path, version: Version) -> None:
    """From 7.19 on each is a row with the service's name, wherever it stands in the menu, and refuses to be set."""

    async def test() -> None:
        async with place(tmp_path, version, bought(version), port=0) as site:
            await site.give_certificate("owners")
            before = site.export()
            for owners in (site.bootstrap_words(), []):  # the second removal is done by way of api-ssl itself
                _, plain = await asyncio.open_connection("127.0.0.1", site.router.ports["api"])
                tls = await _connected(site)
                await until(lambda: _connections(site) == (2 if version == "7.22" else 0))
                services = site.router.store._table("/ip/service").entries
                services.sort(key=lambda entry: not entry.dynamic)  # the connections first
                done = await site.bootstrap()
                assert done.code == 0, done.said
                assert "nothing was changed" in (await site.bootstrap()).out
                removed = await site.run("--remove", *owners)
                assert removed.code == 0, removed.said
                assert site.service()["certificate"] == "owners"
                plain.close()
                tls.close()
            for line in _lines(removed.out):
                assert await site.console(line) == ""
            services.sort(key=lambda entry: int(entry.id[1:], 16))
            assert site.export() == before

    run(test)


def _connections(site: Site) -> int:
    return sum(row["name"].startswith("api") and row["dynamic"] == "true" for row in site.rows("/ip/service"))


async def _connected(site: Site) -> asyncio.StreamWriter:
    trusted = ssl.create_default_context(cafile=str(site.folder / "owners" / "router.crt"))
    port = site.router.ports["api-ssl"]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, server_hostname="127.0.0.1")
    return writer


def _lines(out: str) -> list[str]:
    return [line.strip() for line in out.splitlines() if line.startswith(("  /", "  :"))]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_removal_that_is_killed_is_taken_up_by_the_next(tmp_path: Path, version: Version) -> None:
    """Killed within its changes and at what follows them, done already or not."""

    async def test() -> None:
        async with place(tmp_path, version, _owners(version)) as site:
            before = site.export()
            assert (await site.bootstrap()).code == 0
            first = site.heard.count
            assert (await site.run("--remove", *site.bootstrap_words())).code == 0
            changes = [number for number, line in enumerate(site.heard_lines()[first:], 1) if CHANGING.match(line)]
            places = range(changes[0], changes[-1] + 3)
            for at in sorted(random.Random(version).sample(places, 3)):
                assert (await site.bootstrap()).code == 0
                assert (await site.run("--remove", *site.bootstrap_words(), at=at)).code == -9, at
                assert site.ours() != ACCESS or at == changes[0]
                done = await site.run("--remove", *site.bootstrap_words())
                assert done.code == 0, f"at {at}: {done.said}"
                assert site.export() == before, at

    run(test)


def test_what_bears_our_names_and_is_not_ours_stays(tmp_path: Path) -> None:
    async def test() -> None:
        rules = bought("7.22")
        rules["/user/group"] = [{"name": "edgeagent", "policy": "api,read,write,test"}]
        rules["/user"] = [{"name": "edgeagent", "group": "edgeagent", "password": "router-secret-of-the-test"}]
        async with place(tmp_path, "7.22", rules) as site:
            await site.give_certificate("owners")
            site.password_file.write_text("router-secret-of-the-test\n")
            site.certificate.write_bytes((tmp_path / "owners" / "router.crt").read_bytes())
            before = site.export()
            removed = await site.run("--remove", *site.bootstrap_words())
            assert (removed.code, "has no user, group or certificate" in removed.out) == (0, True), removed.said
            assert site.export() == before
            plain = await site.run("--remove")
            assert (plain.code, plain.out) == (0, "0 rows removed.\n"), plain.said

    run(test)
