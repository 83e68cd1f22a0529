"""Changes and leases as API sentences. Everything the agent ever writes to a router is put together here."""

from __future__ import annotations

from collections.abc import Sequence

from edgeagent.core.facts import Lease
from edgeagent.routeros.diff import Add, Change, Move, Remove, Set
from edgeagent.routeros.ruleset import TAG

LISTS = "/ip/firewall/address-list"
CONNECTIONS = "/ip/firewall/connection"
CONNECTION_FIELDS = (
    ".id",
    "protocol",
    "src-address",
    "src-port",
    "dst-address",
    "dst-port",
    "reply-src-address",
    "reply-src-port",
    "reply-dst-address",
    "connection-mark",
    "timeout",
    "orig-bytes",
    "repl-bytes",
)
LEASE_TIMEOUT = "1m"


def of_change(change: Change) -> list[str]:
    """One change of the standing ruleset."""
    match change:
        case Add():
            place = [f"=place-before={change.before}"] if change.before else []
            return [f"{change.menu}/add", *_words(change.attributes), *place]
        case Set():
            which = [f"=.id={change.row_id}"] if change.row_id else []
            return [f"{change.menu}/set", *which, *_words(change.attributes)]
        case Move():
            return [f"{change.menu}/move", f"=numbers={change.row_id}", f"=destination={change.before}"]
        case Remove():
            return [f"{change.menu}/remove", f"=.id={change.row_id}"]


def lease_add(lease: Lease, owner: str) -> list[str]:
    """Take a lease: the one sentence that moves voice. ``owner`` names the installation that holds it."""
    words = [f"=list={lease.list}", f"=address={lease.address}", f"=timeout={LEASE_TIMEOUT}", f"=comment={TAG}{owner}"]
    return [f"{LISTS}/add", *words]


def leases_renew(ids: Sequence[str]) -> list[str]:
    """Renew by set alone: a hole of 10 ms between remove and add would end the incoming audio of a call."""
    return [f"{LISTS}/set", f"=.id={','.join(ids)}", f"=timeout={LEASE_TIMEOUT}"]


def leases_remove(ids: Sequence[str]) -> list[str]:
    """Give leases back."""
    return [f"{LISTS}/remove", f"=.id={','.join(ids)}"]


def leases_print(names: Sequence[str]) -> list[str]:
    """Our timed entries as the router holds them."""
    return [f"{LISTS}/print", "=.proplist=.id,list,address,dynamic,comment", *_any_of("list", names)]


def flows_print(marks: Sequence[str]) -> list[str]:
    """The voice rows: all that carry one of our connection marks."""
    return [f"{CONNECTIONS}/print", f"=.proplist={','.join(CONNECTION_FIELDS)}", *_any_of("connection-mark", marks)]


def flows_remove(ids: Sequence[str]) -> list[str]:
    """Remove rows; one that ended meanwhile makes the router trap "no such item"."""
    return [f"{CONNECTIONS}/remove", f"=.id={','.join(ids)}"]


def _words(attributes: dict[str, str]) -> list[str]:
    return [f"={key}={value}" for key, value in attributes.items()]


def _any_of(name: str, values: Sequence[str]) -> list[str]:
    """A query for any of several values; RouterOS queries are a stack machine, ``?#|`` joins two results."""
    words = [f"?{name}={value}" for value in values]
    return [*words, *["?#|"] * (len(values) - 1)]
