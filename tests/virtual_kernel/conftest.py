"""What the tests with real namespaces share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hil.virtual.routeros.values import VERSIONS, Version
from tests.virtual_kernel.bed import Site, site


@pytest.fixture(params=VERSIONS)
def any_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site of each version in turn."""
    yield from _site(request.param)


@pytest.fixture
def old_site() -> Iterator[Site]:
    """A site with RouterOS 6."""
    yield from _site("6.49")


@pytest.fixture
def new_site() -> Iterator[Site]:
    """A site with RouterOS 7."""
    yield from _site("7.22")


def _site(version: Version) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("needs root: the plane runs in network namespaces of its own")
    with site(version) as made:
        yield made
