"""One bed for all tests here: the provider's programs and six phones take half a second to start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hil.virtual.phones import STANDARD_PHONES, Phone, stop_phones
from hil.virtual.provider import Provider
from hil.virtual.provider_sip import Binding

from .bed import Bed

GUARD_S = 20.0  # no claim of any test here: it ends what would hang
_PROGRAMS = ("kamailio", "rtpengine", "baresip", "exim4", "dnsmasq", "openssl", "ip", "nft", "unshare")


@dataclass
class Voice:
    """A running provider with registered phones. Background tasks run only while the runner does."""

    bed: Bed
    provider: Provider
    runner: asyncio.Runner
    folder: Path
    phones: dict[str, Phone] = field(default_factory=dict)

    def events(self, source: str) -> list[dict[str, object]]:
        self.runner.run(asyncio.sleep(0.15))  # the log of Kamailio is read every 50 ms
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["source"] == source]

    def events_until(
        self, source: str, ready: Callable[[list[dict[str, object]]], bool], **fields: object
    ) -> list[dict[str, object]]:
        """The events of a source with these fields, by time, once they are what ``ready`` waits for."""
        end_s = time.monotonic() + GUARD_S
        while True:
            found = [event for event in self.events(source) if fields.items() <= event.items()]
            if ready(found):
                return sorted(found, key=lambda event: float(str(event["t"])))
            assert time.monotonic() < end_s, found

    def bindings(self) -> dict[str, Binding]:
        """By user. Read at one stroke: a pause between Kamailio's answer and our two clocks would falsify the times."""
        end_s = time.monotonic() + GUARD_S
        while True:
            start_s = time.monotonic()
            found = {binding.user: binding for binding in self.provider.bindings()}
            if time.monotonic() - start_s < 0.1:
                return found
            assert time.monotonic() < end_s, "never read within 0.1 s"


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Voice]:
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("voice")
    bed = Bed(folder)
    with asyncio.Runner() as runner:
        try:
            bed.up()
            provider = Provider(bed.spawn, folder, folder / "events.jsonl")
            made = Voice(bed, provider, runner, folder)
            runner.run(_start(made))
            yield made
            runner.run(stop_phones(list(made.phones.values())))
            runner.run(provider.stop())
            assert bed.processes() == []
        finally:
            bed.down()


async def _start(voice: Voice) -> None:
    await voice.provider.start()
    for spec in STANDARD_PHONES:
        phone = Phone(spec, voice.bed.spawn, voice.folder / "phones", voice.provider.events)
        voice.phones[spec.name] = phone
        await phone.start()
    for phone in voice.phones.values():
        await phone.wait_registered(GUARD_S)
