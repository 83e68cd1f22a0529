"""What any bench can do. Scenarios speak to this and to nothing else, so a real rig can run them too.

A bench is one site with its phones, lines and provider, and one clock: every event carries ``t``, seconds of the bench
machine's monotonic clock, and the ``source`` that observed it (``emulator``, ``router``, ``kamailio``, ``exim``,
``phone``, ``kernel``, ``bench``). Figures are computed from the events alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

Event = dict[str, Any]
Match = Callable[[Event], bool]
PHONES = ("p1", "p2", "p3", "p4", "p5", "p6")


class BenchBroken(Exception):
    """The bench itself failed: nothing can be said about the product."""


class CannotRun(Exception):
    """This machine or this bench cannot run the scenario; the text says what is missing."""


@dataclass(frozen=True)
class Binding:
    """One registration as the registrar sees it."""

    user: str
    address: str
    transport: str
    expires_s: int


@dataclass(frozen=True)
class Options:
    """How a scenario is to be run. ``long``: the form of ``make bench``, else that of ``make test``."""

    router: str = "7.22"
    profile: str = "rb2011"
    seed: int = 1
    long: bool = False
    breakage: str = ""


class Bench(Protocol):
    """One site under test. ``random`` is seeded; scenarios take every phase from it."""

    options: Options
    random: random.Random

    def now(self) -> float:
        """The bench's clock, s."""

    def observe(self, event: str, **fields: Any) -> Event:
        """Note something the story did or saw, as source ``bench``."""

    def events(self) -> list[Event]:
        """All events so far."""

    async def wait(self, match: Match, timeout_s: float, since_s: float = 0.0) -> Event | None:
        """The first event at or after ``since_s`` that matches, waiting for it; None after ``timeout_s``."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    # --- the lines: "wan" and "lte" ---

    async def cut(self, line: str, direction: str = "both") -> float:
        """The line dies silently, its link stays up; returns when. ``direction``: ``up`` (from the site), ``down``."""

    async def restore(self, line: str) -> float:
        """The line works again; returns when."""

    async def unplug(self, line: str) -> float:
        """The carrier goes; returns when."""

    async def plug(self, line: str) -> float:
        """The carrier comes back; returns when."""

    async def impair(self, line: str, **fields: Any) -> float:
        """Delay, jitter, loss, rate or filters of a line (see the emulator's fields); returns when."""

    async def capture(self, label: str) -> Event:
        """Note the totals of what crossed each line so far, by direction and class, as an event ``totals``."""

    async def call_gap(self, label: str) -> None:
        """Note the longest silence of each media flow since the last reset, as an event ``max_gaps``."""

    async def reset_gaps(self) -> None:
        """Measure silences from now on."""

    # --- the site ---

    async def start_site(self, phones: Iterable[str] = PHONES, spread_s: float = 5.0) -> None:
        """Provision the router, start the agent, start the phones at seeded moments, wait until all are bound."""

    async def start_phones(self, phones: Iterable[str], spread_s: float) -> None:
        """Start only phones, without any agent."""

    async def start_agent(self) -> None:
        """Start the agent."""

    async def stop_agent(self, *, kill: bool = False) -> None:
        """End the agent, gently or not."""

    async def power(self, box: str, *, on: bool) -> None:
        """Switch a box (``router``) off or on."""

    async def router_sentence(self, *words: str) -> list[dict[str, str]]:
        """Type a command at the router as its owner would."""

    async def router_misbehave(self, kind: str, **fields: Any) -> None:
        """Let the router misbehave from now on."""

    async def router_behave(self) -> None:
        """End every misbehaviour of the router."""

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        """Send a command over the router's API, as an administrator's tool would."""

    async def place_call(self, phone: str, timeout_s: float) -> float | None:
        """Dial the far end; when it was answered, or None."""

    async def hang_up(self, phone: str) -> None:
        """End the phone's call."""

    async def provider_options(self, *, ignore: bool) -> None:
        """The provider's server ignores SIP OPTIONS from now on, or answers them again."""

    async def provider_silent(self, *, silent: bool) -> None:
        """The provider's servers stop answering anything, or come back."""

    async def bindings(self) -> list[Binding]:
        """The registrations as the registrar sees them."""

    async def voice_flows(self) -> list[dict[str, str]]:
        """The router's connection-tracking rows towards the provider, read from the kernel or the router itself."""

    async def lan_attempt(self, text: str, *, seconds: float = 1.0) -> None:
        """An ordinary PC on the LAN sends packets that carry ``text`` to a neutral host."""

    async def ping_from_site(self, target: str) -> None:
        """One ordinary ping from the agent's host to ``target``, with its main address."""

    async def ask(self, instruction: str) -> None:
        """Ask the person at the bench to do something (a virtual bench refuses)."""
