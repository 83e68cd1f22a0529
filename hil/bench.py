"""What any bench can do. Scenarios speak to this and to nothing else, so a real rig can run them too.

A bench is one site with its phones, lines and provider, and one clock: every event carries ``t``, seconds of the bench
machine's monotonic clock, and the ``source`` that observed it (``emulator``, ``router``, ``kamailio``, ``exim``,
``phone``, ``kernel``, ``bench``). Figures are computed from the events alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Event = dict[str, Any]
Match = Callable[[Event], bool]
HOLD_S = 30.0
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
    """How a scenario is to be run. ``long``: the form of ``make bench``, else that of ``make test``.

    ``start``: how the router is configured before the story: ``as-now``, with the agent's access and both uplinks in
    place; ``factory``, as it is sold, its uplinks told by DHCP; ``hand-grown``, by its owner over years, with a static
    primary and the backup told by DHCP. But for the first there is no access yet, and SSH is on.
    """

    router: str = "7.22"
    profile: str = "rb2011"
    seed: int = 1
    long: bool = False
    breakage: str = ""
    start: str = "as-now"


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

    async def probe_gap(self, label: str) -> None:
        """Note, as an event ``probe_gaps``, the longest spacing of the pings to each target since the last reset."""

    async def note_stalls(self, label: str) -> None:
        """Note what shows whether the machine held the agent up.

        As an event ``pings`` (source ``emulator``), by line and target, when the latest pings from the site came to
        it. As an event ``kept waiting`` (source ``kernel``), so far: ``agent_s``, for how long threads of the agent
        stood ready and were not run, and ``stolen_s``, what a hypervisor took from the machine's processors.
        """

    async def reset_gaps(self) -> None:
        """Measure silences and spacings from now on."""

    async def look(self, stage: str) -> Event:
        """Note, as an event ``look``, what a bystander sees now; ``stage`` says for what it was asked.

        ``leases``: the agent's timed entries in the router as "list address", None while it is down. ``voice``: by
        line, when a voice packet of the site last came to it (``entered_s``) and when one was last delivered
        (``delivered_s``).
        """

    # --- the site ---

    async def start_site(
        self,
        phones: Iterable[str] = PHONES,
        spread_s: float = 5.0,
        *,
        hold_s: float = HOLD_S,
        own_disk: bool = False,
        provisioned: bool = False,
    ) -> None:
        """Provision the router, start the agent, start the phones at seeded moments, wait until all are bound.

        ``hold_s`` is the site's hold. ``own_disk``: the agent's state lies on a file system of its own.
        ``provisioned``: the story has seen to the router itself.
        """

    async def provision(self, *words: str, as_owner: bool = False) -> Event:
        """Run ``edgeagent provision`` with these words and note, as an event ``provision``, how it ended.

        ``code`` and ``output``; ``began_s`` and ``t`` say when. ``as_owner``: with the login of the router's owner.
        """

    async def export(self, label: str) -> Event:
        """Note, as an event ``export``, the router's configuration as its owner reads it over SSH.

        ``lines``: one command a line, without what tells of the day.
        """

    async def start_phones(self, phones: Iterable[str], spread_s: float) -> None:
        """Start only phones, without any agent."""

    async def start_agent(self) -> None:
        """Start the agent."""

    async def stop_agent(self, *, kill: bool = False) -> None:
        """End the agent, gently or not."""

    async def start_rival(self) -> None:
        """Start a second agent beside the first, of another site, with a store of its own, for the same router."""

    async def stop_rival(self) -> None:
        """End the second agent at once."""

    async def note_status(self, label: str, *, rival: bool = False) -> Event:
        """Note, as an event ``status``, what the agent says of itself.

        ``answered``: whether it did. ``faults``: their codes. ``rows``: its view of the router's rows. ``said``: what
        it told of them so far, each as [seconds of the bench's clock, kind, thing, what was found].
        """

    async def pause_agent(self, seconds: float) -> None:
        """The agent's process stands still for so long."""

    async def stop_at_record(self, phase: str, timeout_s: float) -> Event | None:
        """Let the agent's process stand still when it has recorded, on its disk, that it goes to ``phase`` now.

        Returns the event ``stopped at record`` that is noted then, or None if that did not happen in time.
        """

    async def freeze_disk(self) -> float:
        """The agent's own disk hangs from now on; returns when. A write of the bench to it is noted when it is done."""

    async def thaw_disk(self) -> float:
        """The disk goes on; returns when."""

    async def note_store(self, label: str) -> Event:
        """Note, as an event ``store``, the changes of place that the agent's store holds (``places``).

        ``commits``: what it has committed together, each with ``at_s``, by the bench's clock, and the ``kinds``.
        """

    async def power(self, box: str, *, on: bool) -> None:
        """Switch a box off, or on and wait until it has booted.

        ``router``: whatever it held in RAM is gone, and its LAN ports are dead meanwhile. ``agent``: the machine it
        runs on; it comes back with another boot id and a clock near zero, its disk as it was. ``modem``: LTE has no
        carrier, and passes nothing yet for some seconds after that is back. ``phones``: all that the story has started;
        they do not say goodbye, and register when and as often as they please.
        """

    async def use_own_disk(self) -> None:
        """From the agent's next start on, its state lies on a file system of its own, as on a card of its own."""

    async def note_usage(self, label: str) -> Event:
        """Note what the agent has used since it was started, as an event ``usage``.

        ``rss_bytes`` and ``rss_peak_bytes`` of its processes, their ``cpu_s``, and the ``written_bytes`` of its disk
        (see :meth:`use_own_disk`) at the block device, what still waited to be written included.
        """

    async def waste(self, what: str, seconds: float) -> None:
        """A neighbour of the agent is wasteful for so long, and is measured as the agent is.

        ``cpu``: it never rests. ``memory``: it fills 64 MiB. ``disk``: it writes and syncs 4 KiB each second on the
        agent's disk. Its events ``usage`` are labelled "WHAT wasted from" and "WHAT wasted until".
        """

    async def router_sentence(self, *words: str) -> list[dict[str, str]]:
        """Type a command at the router as its owner would."""

    async def router_misbehave(self, kind: str, **fields: Any) -> None:
        """Let the router misbehave from now on."""

    async def router_behave(self) -> None:
        """End every misbehaviour of the router."""

    async def router_api(self, *words: str) -> list[dict[str, str]]:
        """Send a command over the router's API, as an administrator's tool would."""

    async def add_foreign_connections(self, count: int) -> None:
        """Fill the router's connection table with so many connections of others, which stay for an hour."""

    async def poll_naively(self, clients: int, seconds: float) -> None:
        """So many foreign programs ask the router's plain API for all connections and interfaces, all the time.

        Each asks on a connection of its own, and anew each time.
        """

    async def note_api_load(self, label: str) -> Event:
        """Note, as an event ``load``, the router's own counts of what its API did so far.

        ``rows`` of its connection table; by connection to the API ("api-ssl ADDRESS:PORT"), the ``packets`` and
        ``packet_bytes`` of both directions that it counts there; by service, ``acks``, the ``packets`` and ``bytes``
        of those that acknowledge and carry nothing, since the first such note; ``api_bytes`` without headers and TLS,
        by service; ``log_lines`` that name the agent's user.
        """

    async def place_call(self, phone: str, timeout_s: float) -> float | None:
        """Dial the far end; when it was answered, or None."""

    async def hang_up(self, phone: str) -> None:
        """End the phone's call."""

    async def provider_options(self, *, ignore: bool) -> None:
        """The provider's server ignores SIP OPTIONS from now on, or answers them again."""

    async def provider_mail(self, mode: str) -> None:
        """What the mail server does from now on: ``accept``, ``defer`` (451, as greylisting does) or ``down``."""

    async def provider_silent(self, *, silent: bool) -> None:
        """The provider's servers stop answering anything, or come back."""

    async def bindings(self) -> list[Binding]:
        """The registrations as the registrar sees them."""

    async def voice_flows(self) -> list[dict[str, str]]:
        """The router's connection-tracking rows towards the provider, read from the kernel or the router itself."""

    async def lan_attempt(self, text: str, *, seconds: float = 1.0) -> None:
        """An ordinary PC on the LAN sends packets that carry ``text`` to a neutral host."""

    async def note_source(self, host: str, target: str, label: str) -> Event:
        """A host (``pc``, ``pi``) of the LAN sends a few datagrams to ``target``, whether or not anybody is there.

        Noted as an event ``source`` with host, target, label and ``seen``: by which addresses they left on the primary.
        """

    async def ping_from_site(self, target: str) -> None:
        """One ordinary ping from the agent's host to ``target``, with its main address."""

    # --- leaks and voice ---

    async def start_leaks(self) -> None:
        """Make ready to send the attempts of the leak suite; everything that crosses LTE is recorded from now on.

        Events, as source ``carrier``, come from :meth:`judge_leaks`. Notes, as an event ``attempts``, what there is to
        try: by name, why, and whether a router can prevent it.
        """

    async def open_flows(self, label: str, *, fast: bool) -> None:
        """Set up flows that are to be carried over into a situation; ``fast``: those that must be fasttracked."""

    async def begin_attempts(self, label: str) -> None:
        """From now on send every attempt, several times a second, marked as of this situation."""

    async def end_attempts(self, label: str) -> None:
        """Stop; noted as an event ``attempted`` with how often each attempt was ``sent``."""

    async def judge_leaks(self, control_s: float) -> None:
        """Look through all that crossed LTE. What came before ``control_s`` was sent under the standing rules.

        ``marked``: an attempt was seen in a situation. ``class`` and ``unclassified``: the other packets, by name and
        direction. Each has ``packets`` and ``bytes``. ``recorded``: how many ``frames`` there were, and the names of
        the attempts that are in no class (``strange``).
        """

    async def check_voice(self, label: str) -> Event:
        """Try every form of voice; noted as an event ``voice checked`` with ``worked``: check -> whether it did."""

    async def ask_by_name(self) -> None:
        """Phones started from now on find their registrar by its SRV record, and ask the router for it.

        The site is to let voice devices ask the provider's resolver while they are on LTE.
        """

    async def ask_name(self, host: str, server: str, label: str) -> Event:
        """A host (``pc``, ``pi``, ``ph1``) asks a server for a name that begins with ``label``, a few times.

        Noted as an event ``question``: whether it was ``answered``, and the bytes of it that were seen on LTE,
        ``lte_bytes``.
        """

    async def ask(self, instruction: str) -> None:
        """Ask the person at the bench to do something (a virtual bench refuses)."""


async def disable_rows(bench: Bench, menu: str, comment: str, actions: Sequence[str] = ()) -> None:
    """Switch off, at the router, the product's rows of a menu whose comments begin like this.

    ``actions``: only those that do one of these. They stay off: a product that puts them right is told that it has.
    """
    await bench.router_misbehave("swallow", command=f"{menu}/set", arguments="^=disabled=")
    for row in await bench.router_sentence(f"{menu}/print"):
        if row.get("comment", "").startswith(comment) and (not actions or row.get("action") in actions):
            await bench.router_sentence(f"{menu}/disable", f"=.id={row['.id']}")
