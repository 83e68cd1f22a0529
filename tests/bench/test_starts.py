"""Each start of the virtual router boots on the kernel bench, and a phone reaches its provider through it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from hil.bench import Options
from hil.virtual import addresses as plan
from hil.virtual.bench import can_run, open_bench
from hil.virtual.routeros.values import VERSIONS, Version
from hil.virtual.starts import AS_NOW, FACTORY, STARTS, VLAN, VLAN_ADDRESS
from hil.virtual.topology_netns import NamespaceError, run_ip

pytestmark = pytest.mark.bench
# A camera on the VLAN of the hand-grown router; it hangs on the PC's cable.
CAMERA = "192.168.20.50"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("start", STARTS)
def test_a_phone_reaches_the_provider(start: str, version: Version, tmp_path: Path) -> None:
    if reason := can_run():
        pytest.skip(reason)

    async def test() -> None:
        profile = "rb2011" if version == "6.49" else "hap-ac2"
        async with open_bench(Options(version, profile, start=start), tmp_path) as bench:
            await bench.start_phones(("p1",), 0.0)
            assert {(one.user, one.address) for one in await bench.bindings()} >= {("p1", plan.ROUTER_WAN)}
            if start != AS_NOW:
                lines = (await bench.export("now"))["lines"]
                assert len(lines) > 20
                assert not any("edgeagent" in line for line in lines)
            ports = {row["interface"] for row in await bench.router_sentence("/interface/bridge/port/print")}
            assert (bench.bed.lte_port in ports) == (start == FACTORY)
            if VLAN in {row["name"] for row in await bench.router_sentence("/interface/print")}:
                await asyncio.to_thread(_camera_pings, bench.bed.namespace("pc"))

    asyncio.run(asyncio.wait_for(test(), 60.0))


def _camera_pings(namespace: str) -> None:
    """Raises where the router does not answer a camera; not every kernel has VLANs."""
    try:
        run_ip(["link add link eth0 name camera type vlan id 20"], namespace)
    except NamespaceError as error:
        assert "Unknown device type" in str(error)
        return
    run_ip([f"addr add {CAMERA}/24 dev camera", "link set camera up"], namespace)
    command = ["ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", "3", VLAN_ADDRESS]
    subprocess.run(command, check=True, capture_output=True)
