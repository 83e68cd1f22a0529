"""A bootstrap that is killed: the next run takes it up, and without one the router is as before by itself."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import run, until
from tests.bootstrap.support import Site, place

pytestmark = pytest.mark.slow
ACCESS = {"/user", "/user/group", "/certificate", "service"}
SHARES, PLACES = 1, 3
ROLLBACK_S = 60  # a run on a busy machine must come to its end in less


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_that_is_killed_anywhere_is_taken_up_by_the_next(tmp_path: Path, version: Version, share: int) -> None:
    """Killed at a thing that the router heard of, done already or not: each share of the runs at other ones."""

    async def test() -> None:
        (tmp_path / "whole").mkdir()
        places = [number for number in await _things(tmp_path / "whole", version) if number % SHARES == share]
        for at in sorted(random.Random(f"{version} {share}").sample(places, PLACES)):
            folder = tmp_path / f"at-{at}"
            folder.mkdir()
            async with place(folder, version) as site:
                before = site.export()
                killed = await site.bootstrap(at=at)
                assert killed.code == -9, f"at {at}: {killed.said}"
                await _completed(site, before, f"at {at}")

    run(test)


async def _things(folder: Path, version: Version) -> range:
    """How many things the router hears of a whole run."""
    async with place(folder, version) as site:
        assert (await site.bootstrap()).code == 0
        return range(1, site.heard.count)


async def _completed(site: Site, before: str, what: str) -> None:
    done = await site.bootstrap()
    assert done.code == 0, f"{what}: {done.said}"
    assert site.ours() == ACCESS, what
    again = await site.bootstrap()
    assert "nothing was changed" in again.out, f"{what}: {again.said}"
    removed = await site.run("--remove", *site.bootstrap_words())
    assert removed.code == 0, f"{what}: {removed.said}"
    assert site.export() == before, what


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_that_is_killed_at_any_moment_is_taken_up_by_the_next(tmp_path: Path, version: Version) -> None:
    """By the clock, so that its own files are cut too."""

    async def test() -> None:
        moments = random.Random(f"moments {version}")
        killed = 0
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            async with place(folder, version) as site:
                before = site.export()
                done = await site.run("--bootstrap", *site.bootstrap_words(), after_s=moments.uniform(0.3, 1.8))
                killed += done.code == -9
                await _completed(site, before, f"moment {number}")
        assert killed  # the control: some of them were cut

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_rollback_makes_the_router_as_before_and_only_after_a_run_that_died(
    tmp_path: Path, version: Version
) -> None:
    async def test() -> None:
        words = ("--rollback", str(ROLLBACK_S))
        (tmp_path / "killed").mkdir()
        async with place(tmp_path / "killed", version) as site:
            before = site.export()
            at = await _last_before_disarming(site, words)
            assert (await site.bootstrap(*words, at=at)).code == -9
            assert site.ours() == ACCESS | {"job edgeagent-rollback"}
            await until(lambda: not site.ours())
            assert site.export() == before
            assert "its new access was not proved in time and is taken away" in site.log()
            await _completed(site, before, "after the rollback")
        (tmp_path / "control").mkdir()
        async with place(tmp_path / "control", version) as site:
            assert (await site.bootstrap(*words)).code == 0
            await asyncio.sleep(ROLLBACK_S + 2.0)
            assert site.ours() == ACCESS

    run(test)


async def _last_before_disarming(site: Site, words: tuple[str, ...]) -> int:
    """The last thing heard before the rollback is taken away: learnt from a whole run, which is then undone."""
    first = site.heard.count
    assert (await site.bootstrap(*words)).code == 0
    heard = site.heard_lines()[first:]
    at = max(number for number, line in enumerate(heard) if line.startswith("/system scheduler remove"))
    assert (await site.run("--remove", *site.bootstrap_words())).code == 0
    (site.folder / "router.password").unlink()
    return at


def test_a_rollback_that_fails_in_part_does_the_rest_and_comes_back_for_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            at = await _last_before_disarming(site, ("--rollback", str(ROLLBACK_S)))
            done = await site.bootstrap("--rollback", str(ROLLBACK_S), at=at)
            assert done.code == -9
            site.plane.refuse_next = "failure: busy"  # the first thing that the job does
            await until(lambda: site.ours() == {"service", "job edgeagent-rollback"})
            await until(lambda: not site.ours())

    run(test)


def test_a_proof_that_fails_leaves_the_rollback_armed_and_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with place(tmp_path, "7.22") as site:
            before = site.export()
            site.router.misbehaviour.add({"kind": "wrong_password", "arguments": "=name=edgeagent"})
            done = await site.bootstrap("--rollback", str(ROLLBACK_S))
            assert done.code == 1, done.said
            assert "refused the user 'edgeagent'" in done.err
            assert "Proved" not in done.out
            await until(lambda: site.export() == before)

    run(test)
