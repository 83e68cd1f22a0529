"""Changes and leases as API sentences. Everything the agent ever writes to a router is put together here."""

from __future__ import annotations

from collections.abc import Sequence

from edgeagent.core.facts import Lease
from edgeagent.core.settings import ALIVE_LIST, PRIMARY_TAG
from edgeagent.routeros.diff import Add, Change, Move, Remove, Set, Unset
from edgeagent.routeros.rows import DEVICES, TAG, device_comment

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
# A lease of a backup outlives a lost reply and a slow router. Those of the primary are short: while they stand, a line
# that dies together with the agent is held on to, and the native fallback may not remove a row.
LEASE_S, SHORT_LEASE_S = 60, 30


def of_change(change: Change) -> list[str]:
    """One change of the standing ruleset."""
    match change:
        case Add():
            place = [f"=place-before={change.before}"] if change.before else []
            return [f"{change.menu}/add", *_words(change.attributes), *place]
        case Set():
            which = [f"=.id={change.row_id}"] if change.row_id else []
            return [f"{change.menu}/set", *which, *_words(change.attributes)]
        case Unset():
            return [f"{change.menu}/unset", f"=.id={change.row_id}", f"=value-name={change.attribute}"]
        case Move():
            return [f"{change.menu}/move", f"=numbers={change.row_id}", f"=destination={change.before}"]
        case Remove():
            return [f"{change.menu}/remove", f"=.id={change.row_id}"]


def lease_timeout_s(name: str) -> int:
    """For how long an entry of this list is taken, seconds; it is to be renewed after a third of that."""
    return SHORT_LEASE_S if name == ALIVE_LIST or name.startswith(f"edge-{PRIMARY_TAG}-") else LEASE_S


def lease_add(lease: Lease, owner: str) -> list[str]:
    """Take a lease: the one sentence that moves voice. ``owner`` names the installation that holds it."""
    timeout = f"=timeout={lease_timeout_s(lease.list)}s"
    return [f"{LISTS}/add", f"=list={lease.list}", f"=address={lease.address}", timeout, f"=comment={TAG}{owner}"]


def leases_renew(ids: Sequence[str], timeout_s: int) -> list[str]:
    """Renew by set alone: a hole of 10 ms between remove and add would end the incoming audio of a call."""
    return [f"{LISTS}/set", f"=.id={','.join(ids)}", f"=timeout={timeout_s}s"]


def leases_remove(ids: Sequence[str]) -> list[str]:
    """Give leases back."""
    return [f"{LISTS}/remove", f"=.id={','.join(ids)}"]


def leases_print(names: Sequence[str]) -> list[str]:
    """Our timed entries as the router holds them."""
    return [f"{LISTS}/print", "=.proplist=.id,list,address,dynamic,comment", *any_of("list", names)]


def flows_print(marks: Sequence[str]) -> list[str]:
    """The voice rows: all that carry one of our connection marks."""
    return [f"{CONNECTIONS}/print", f"=.proplist={','.join(CONNECTION_FIELDS)}", *any_of("connection-mark", marks)]


def flows_remove(ids: Sequence[str]) -> list[str]:
    """Remove rows; one that ended meanwhile makes the router trap "no such item"."""
    return [f"{CONNECTIONS}/remove", f"=.id={','.join(ids)}"]


def devices_print() -> list[str]:
    """The voice devices, learnt or written down."""
    return [f"{LISTS}/print", "=.proplist=.id,address,dynamic,comment", f"?list={DEVICES}"]


def questions_print() -> list[str]:
    """All UDP rows, with as little of each as tells who asks for names."""
    return [f"{CONNECTIONS}/print", "=.proplist=.id,src-address,dst-address,dst-port", "?protocol=udp"]


def device_add(address: str) -> list[str]:
    """Write a voice device down."""
    return [f"{LISTS}/add", f"=list={DEVICES}", f"=address={address}", f"=comment={device_comment(address)}"]


def device_remove(number: str) -> list[str]:
    """Take a voice device out, learnt or written down."""
    return [f"{LISTS}/remove", f"=.id={number}"]


def ping_command(version: str) -> str:
    """How a router of this version is told to ping: 7 has it in /tool, and from 7.23 on nowhere else."""
    return "/ping" if version.startswith("6.") else "/tool/ping"


def ping_once(command: str, target: str) -> list[str]:
    """One echo by the router's own routes; its row has a ``time`` if it was answered."""
    return [command, f"=address={target}", "=count=1"]


def ping(command: str, target: str, source: str, size_bytes: int, interval_s: float, count: int | None) -> list[str]:
    """Echoes from one of the router's own addresses, for ever or ``count`` of them; one row each."""
    words = [
        f"=address={target}",
        f"=src-address={source}",
        f"=size={size_bytes}",
        f"=interval={interval_s * 1000:.0f}ms",
    ]
    return [command, *words, *([] if count is None else [f"=count={count}"])]


def _words(attributes: dict[str, str]) -> list[str]:
    return [f"={key}={value}" for key, value in attributes.items()]


def any_of(name: str, values: Sequence[str]) -> list[str]:
    """A query for any of several values; RouterOS queries are a stack machine, ``?#|`` joins two results."""
    words = [f"?{name}={value}" for value in values]
    return [*words, *["?#|"] * (len(values) - 1)]
