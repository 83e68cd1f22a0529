"""What stands behind the menus of the virtual RouterOS: the seam between rows and their effect.

A *plane* gives rows their effect. The model plane gives none (it only keeps counters and pings plausible); the kernel
plane compiles the rows into routes, rules and nftables of the network namespace it runs in, and reads connections and
counters back from that kernel. The server and the store know this protocol and nothing else of a plane.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

# One row as the API shows it: property name -> value text ("true"/"false" for flags, "*1A" for ".id").
Row = dict[str, str]


class Trap(Exception):
    """A refusal the router answers with ``!trap`` (MikroTik API manual, "Reply types").

    ``category``: 0 missing item or command, 1 bad argument value, 2 interrupted, 3 scripting, 4 general, 5 API, 6 TTY,
    7 value of :return; None where the router gives none.
    """

    def __init__(self, message: str, category: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.category = category


class Plane(Protocol):
    """The effect of the rows."""

    async def start(self, store: Store) -> None:
        """Take over: make the kernel what the store's rows say. Called once at boot and again after each reboot."""

    async def stop(self) -> None:
        """Undo every effect; called at the end and before each reboot."""

    async def changed(self, menus: frozenset[str]) -> None:
        """Rows of these menus changed (a write, a lapsed timeout, a link event). Done before the reply is sent.

        May raise :class:`Trap` when the rows cannot be given an effect; the server then undoes the write.
        """

    async def rows(self, menu: str) -> list[Row] | None:
        """The live rows of a menu that only the plane knows (``/ip/firewall/connection``), else None."""

    async def live(self, menu: str) -> Mapping[str, Row]:
        """Read-only properties to lay over stored rows, by ``.id``: ``bytes``, ``packets``, ``active``, ``running``."""

    async def remove(self, menu: str, row_id: str) -> None:
        """Remove one live row of :meth:`rows`; raises ``Trap("no such item")`` where it is gone."""

    def ping(self, arguments: Mapping[str, str]) -> AsyncIterator[Row]:
        """``/ping`` and ``/tool/ping``: one row per echo (``seq host size ttl time`` or ``status=timeout``)."""

    def on_event(self, notify: Callable[[str, Row], None]) -> None:
        """Where to report rows that changed by themselves (link up or down, route inactive): ``(menu, row)``."""
