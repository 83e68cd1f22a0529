"""``add-src-to-address-list`` and ``add-dst-...``: what packets put into a dynamic set becomes address-list rows.

The copy is made a few times a second, so a list learns with that delay; on a router the next packet already matches.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from hil.virtual.routeros.kernel_system import run
from hil.virtual.routeros.plane import Row, Trap

POLL_S: Final = 0.25
_LIST: Final = "/ip/firewall/address-list"


class Learner:
    """Copies learned addresses while there are rules that learn."""

    def __init__(self, sentence: Callable[[list[str]], Awaitable[list[Row]]]) -> None:
        self._sentence = sentence
        self._sets: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._left_s: dict[tuple[str, str], int] = {}

    def watch(self, learned: dict[str, str]) -> None:
        """Follow these sets (nft set -> address list)."""
        self._sets = dict(learned)
        if learned and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._poll())
        elif not learned:
            self.stop()

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._left_s.clear()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            for nft_set, name in list(self._sets.items()):
                for address, left_s in (await _elements(nft_set)).items():
                    before_s = self._left_s.get((name, address))
                    self._left_s[(name, address)] = left_s
                    if before_s is None or left_s > before_s:
                        await self._put(name, address, left_s)

    async def _put(self, name: str, address: str, left_s: int) -> None:
        timeout = [f"=timeout={left_s}s"] if left_s else []
        try:
            await self._sentence([f"{_LIST}/add", f"=list={name}", f"=address={address}", *timeout])
        except Trap:  # it is there: only its time is renewed
            for row in await self._sentence([f"{_LIST}/print"]):
                if row.get("list") == name and row.get("address") == address and row.get("timeout") and timeout:
                    await self._sentence([f"{_LIST}/set", f"=.id={row['.id']}", *timeout])


async def _elements(nft_set: str) -> dict[str, int]:
    """Address -> seconds left (0: for ever)."""
    code, output, _complaint = await run("nft", "-j", "list", "set", "ip", "ros", nft_set)
    if code:
        return {}
    for item in json.loads(output)["nftables"]:
        elements = item.get("set", {}).get("elem", [])
        if elements:
            pairs = [each["elem"] if isinstance(each, dict) else {"val": each} for each in elements]
            return {pair["val"]: int(pair.get("expires", 0)) for pair in pairs}
    return {}
