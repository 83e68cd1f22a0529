"""One folder as ``make wheels`` fills it for all who install from it, and a machine for each file of tests that do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import wheels
from tests.service.machine import CannotMount
from tests.service.site import VERSIONS, Site


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For every machine and Python that is supported."""
    found = tmp_path_factory.mktemp("dist")
    done = wheels.make(found)
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.fixture(scope="module")  # not longer: a first install finds nothing of another file's tests
def site(dist: Path) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it boots a machine in namespaces")
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("systemd is not installed; `make setup` as root installs it")
    try:
        with Site() as found:
            for version, replace in VERSIONS.items():
                wheels.variant(dist, found.share / version, version, replace)
            yield found
    except CannotMount as reason:
        pytest.skip(f"cannot mount here: {reason}")
