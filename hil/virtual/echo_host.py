"""A host that gives back what it gets (see echo_server), as a part of the bench."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hil.virtual.provider_programs import Program, ProgramError, Spawn, wait_until

_SERVER: Final = Path(__file__).with_name("echo_server.py")


class EchoHost:
    """One process in the namespace of ``role``; ``places`` as echo_server wants them."""

    def __init__(self, name: str, role: str, places: Sequence[str], spawn: Spawn, folder: Path) -> None:
        self.program = Program(name, spawn, folder)
        self._role = role
        self._places = list(places)
        self._output = folder / f"{name}.out"

    async def start(self) -> None:
        """Start; returns when it listens everywhere."""
        self._output.unlink(missing_ok=True)
        await self.program.start(self._role, [sys.executable, str(_SERVER), *self._places], output=self._output)
        await wait_until(self._is_ready, self.program.name)

    async def stop(self) -> None:
        """End it."""
        await self.program.stop()

    def _is_ready(self) -> bool:
        if not self.program.running:
            raise ProgramError(f"{self.program.name} ended with code {self.program.exit_code}: {self._said()}")
        return "ready" in self._said()

    def _said(self) -> str:
        return self._output.read_text() if self._output.exists() else ""
