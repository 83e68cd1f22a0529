"""On the model plane a DHCP client has what the bench tells it."""

from __future__ import annotations

import pytest

from hil.virtual.routeros.values import VERSIONS, Version
from tests.virtual_routeros.client import bench, eventually, run

SCRIPT = ':log info ("$bound by " . $"gateway-address")'


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_is_bound_to_what_it_is_told(version: Version) -> None:
    async def test() -> None:
        initial = {"/ip/dhcp-client": [{"interface": "ether1", "script": SCRIPT}]}
        async with bench(version, initial) as on:
            client = await on.client()
            assert (await client.rows("/ip/dhcp-client/print"))[0]["status"] == "searching..."
            told = {"interface": "ether1", "address": "192.0.2.2/24", "gateway": "192.0.2.1"}
            on.plane.control("lease", told)

            async def bound() -> bool:
                (row,) = await client.rows("/ip/dhcp-client/print")
                return row["status"] == "bound" and row["gateway"] == "192.0.2.1"

            await eventually(bound)
            assert (await client.rows("/ip/address/print"))[0]["dynamic"] == "true"
            assert (await client.rows("/ip/route/print"))[0]["gateway"] == "192.0.2.1"
            on.plane.control("lease", {"interface": "ether1"})

            async def gone() -> bool:
                return not await client.rows("/ip/address/print") and not await client.rows("/ip/route/print")

            await eventually(gone)
            log = [row["message"] for row in on.router.store.rows("/log") if row["topics"] == "script,info"]
            assert log == ["1 by 192.0.2.1", "0 by 192.0.2.1"]

    run(test)
