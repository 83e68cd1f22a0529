"""What can go wrong between the agent and the router.

    RouterError
    +-- RouterTrap            the router said no to this one command; the connection stays good
    +-- RouterComplaint       the console did not do what a line of ours told it
    +-- RouterUntrusted       (PermissionError)  the peer's certificate is not the pinned one; no login was sent
    +-- RouterLoginRefused    (PermissionError)  the router is the right one, but does not let this user in
    +-- RouterUnusable        (OSError)          a file that site.toml names for it cannot be read
    +-- RouterUnreachable     (ConnectionError)  no connection, or it broke; it is closed
    |   +-- RouterTimeout     (TimeoutError)     the deadline passed
    +-- RouterProtocolError   (ConnectionError)  the peer breaks the API protocol or exceeds our caps; it is closed

`maybe_done` answers the question that matters after a failure: may the router have carried the command out all the
same? Read the rows back before trying again (clause P3). No error carries a password or a reply's contents beyond the
router's own message.
"""

NOT_ALLOWED = "not enough permissions"  # RouterOS 6 and 7 alike, with a number in brackets behind


class RouterError(Exception):
    """Anything of this file. ``fault``: the fault of the catalogue (core/faults.py) that a person is told."""

    maybe_done: bool = False
    fault = "router_unreachable"


class RouterTrap(RouterError):
    """`!trap`: the router understood the sentence and refused it.

    `category` as in MikroTik's API manual: 0 missing item or command, 1 bad value, 2 interrupted, 3 scripting, 4
    general, 5 API, 6 TTY, 7 value of :return; None where the router gave none. Rows that came before the trap are
    dropped.
    """

    def __init__(self, command: str, message: str, category: int | None) -> None:
        self.command = command
        self.message = message
        self.fault = "router_policy_missing" if message.startswith(NOT_ALLOWED) else "router_refused"
        self.category = category
        super().__init__(f"the router refused {command}: {message or 'no reason given'} (category {category})")


class RouterComplaint(RouterError):
    """The console printed something where nothing was expected: over SSH nothing else tells how a line went."""

    fault = "router_refused"


class _Lost(RouterError):
    """A failure that ends the connection."""

    def __init__(self, text: str, *, maybe_done: bool = False) -> None:
        self.maybe_done = maybe_done
        super().__init__(text)


class RouterUntrusted(_Lost, PermissionError):
    """The peer is not the router that was pinned (clause X1): a replaced certificate, or somebody in between."""

    fault = "router_untrusted"


class RouterLoginRefused(_Lost, PermissionError):
    """User, password, group or allowed address do not fit."""

    fault = "router_login_refused"


class RouterUnusable(_Lost, OSError):
    """What site.toml names for reaching the router, its password or certificate, cannot be read here."""

    fault = "router_unusable"


class RouterUnreachable(_Lost, ConnectionError):
    """No connection to be had, or it ended before the answer was complete."""


class RouterTimeout(RouterUnreachable, TimeoutError):
    """The deadline over the whole command passed. With `maybe_done` False it was still waiting for its turn."""


class RouterProtocolError(_Lost, ConnectionError):
    """Not the RouterOS API, or beyond our caps."""
