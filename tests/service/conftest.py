"""One folder as ``make wheels`` fills it, for all who install from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service import wheels


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For every machine and Python that is supported."""
    found = tmp_path_factory.mktemp("dist")
    done = wheels.make(found)
    assert done.returncode == 0, done.stdout + done.stderr
    return found
