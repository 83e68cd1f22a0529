"""Who asks, and may this user do that: the one module that answers, for the API, SSH, SFTP and the router's own jobs.

Users, groups and policies are the rows of ``/user`` and ``/user/group`` (MikroTik manual, "User" and "User groups").
A change of a group counts at once, also for sessions that are open.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from hil.virtual.routeros.menu import Menu
from hil.virtual.routeros.menus import POLICIES
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.store import Store

LOCAL_USER: Final = "admin"
UNPERMITTED: Final = "not enough permissions (9)"
MASK: Final = "*****"
"""What stands in place of a secret for a user without ``sensitive``."""
JOB_MENUS: Final = ("/system/scheduler", "/system/script")
NETWATCH_POLICIES: Final = frozenset({"read", "write", "test", "reboot"})
"""What a netwatch script may do at most, since 6.42 (MikroTik manual, "Netwatch")."""
# The policy that opens each service; the others of /ip/service are not served here.
_LOGIN_POLICY: Final[Mapping[str, str]] = {"api": "api", "api-ssl": "api", "ssh": "ssh"}


@dataclass(frozen=True)
class Caller:
    """Who gave a command, and what that user may do."""

    user: str
    policies: frozenset[str]

    def require(self, *policies: str) -> None:
        """Refuse the command to a user without these policies."""
        if not self.policies.issuperset(policies):
            raise Trap(UNPERMITTED)

    def require_print(self) -> None:
        """Refuse to show rows."""
        self.require("read")

    def require_change(self, menu: Menu) -> None:
        """Refuse to change rows of a menu."""
        self.require("read", "write", menu.write_policy)

    def seen(self, menu: Menu, row: Row) -> Row:
        """A row as this user may see it: its secrets only with ``sensitive``."""
        if "sensitive" in self.policies or not menu.sensitive & row.keys():
            return row
        return {name: MASK if name in menu.sensitive else value for name, value in row.items()}


class LoginError(Exception):
    """A login was refused; why is told to the log only."""


class Access:
    """What the rows of /user and /user/group allow now."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def login(self, service: str, user: str, password: str, peer: str, *, wrong: bool = False) -> Caller:
        """Let a user in by password from an address (``api``, ``api-ssl``, ``ssh``); raises :class:`LoginError`.

        ``wrong`` refuses whatever the password is (a fault of the bench).
        """
        known = self._store.password_of(user)
        same = hmac.compare_digest((known or "").encode(), password.encode("utf-8", "surrogateescape"))
        return self._let_in(service, user, peer, proved=not wrong and known is not None and same)

    def login_by_key(self, service: str, user: str, peer: str) -> Caller:
        """Let a user in whose key was found right; raises :class:`LoginError`."""
        return self._let_in(service, user, peer, proved=self._store.password_of(user) is not None)

    def _let_in(self, service: str, user: str, peer: str, *, proved: bool) -> Caller:
        caller = self.caller(user)
        row = self._row(user)
        allowed = _LOGIN_POLICY[service] in caller.policies and address_allowed(peer, row.get("address", ""))
        if not proved or not allowed:
            via = _LOGIN_POLICY[service]
            self._store.append_log("system,error,critical", f"login failure for user {user} from {peer} via {via}")
            raise LoginError(user)
        return caller

    def caller(self, user: str) -> Caller:
        """A user with the policies of this moment; none for an unknown user."""
        return Caller(user, self.policies_of(user))

    def local(self) -> Caller:
        """The administrator at the console: every policy."""
        return Caller(LOCAL_USER, frozenset(POLICIES[self._store.version]))

    def policies_of(self, user: str) -> frozenset[str]:
        """What the group of a user allows; nothing for an unknown user."""
        group = self._row(user).get("group")
        policy = next((row["policy"] for row in self._store.rows("/user/group") if row["name"] == group), "")
        return held(policy)

    def opened(self, service: str, user: str, peer: str) -> str:
        """Note a session in /user/active and the log; the ``.id`` of its row, for :meth:`closed`."""
        via = _LOGIN_POLICY[service]
        self._store.append_log("system,info,account", f"user {user} logged in from {peer} via {via}")
        row = {"when": self._store.wall_time(), "name": user, "address": peer, "via": via}
        return self._store.add_dynamic("/user/active", row)

    def closed(self, service: str, user: str, peer: str, active_id: str) -> None:
        """A session of :meth:`opened` ended."""
        self._store.remove_dynamic("/user/active", active_id)
        line = f"user {user} logged out from {peer} via {_LOGIN_POLICY[service]}"
        self._store.append_log("system,info,account", line)

    def _row(self, user: str) -> Row:
        return next((row for row in self._store.rows("/user") if row["name"] == user), {})


def held(policy: str) -> frozenset[str]:
    """The policies that a ``policy=`` text grants: ``read,!write`` grants ``read``."""
    return frozenset(name for name in policy.split(",") if name and not name.startswith("!"))


def job_values(store: Store, menu: Menu, references: list[str], values: Row, caller: Caller) -> Row:
    """The values of a scheduler or script as its writer may set them; without references a new one.

    A job may do no more than the user who writes it (MikroTik manual, "Scripting": policies; not given, they are those
    of the user), nor may a user put words into a job that may do more.
    """
    standing = [store.find(menu.path, reference).values.get("policy", "") for reference in references]
    for policy in (*standing, values.get("policy", "")):
        if not held(policy) <= caller.policies:
            raise Trap(UNPERMITTED)
    if references:
        return values
    policy = ",".join(name for name in POLICIES[store.version] if name in caller.policies)
    return {"policy": policy, **values, "owner": caller.user, "run-count": "0"}


def address_allowed(peer: str, prefixes: str) -> bool:
    """Whether the peer is in one of the prefixes; none given allows all."""
    if not prefixes:
        return True
    address = ipaddress.ip_address(peer)
    return any(address in ipaddress.ip_network(prefix) for prefix in prefixes.split(","))


class Connected(Protocol):
    """A connection that can tell whose it is."""

    def get_extra_info(self, name: str) -> Any:
        """What asyncio and asyncssh know of it."""


def ends(connection: Connected) -> tuple[str, str]:
    """The router's address and the peer's with its port, as /ip/service shows a connection."""
    local, remote = connection.get_extra_info("sockname"), connection.get_extra_info("peername")
    return str(local[0]), f"{remote[0]}:{remote[1]}"


def service_allows(service: Row, peer: str) -> bool:
    """Whether a row of /ip/service lets this peer in."""
    return service["disabled"] != "true" and address_allowed(peer, service.get("address", ""))
