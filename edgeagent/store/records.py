"""What is written and what is read back."""

from typing import Any

from msgspec import Struct

from edgeagent.core.facts import Instant


class Record(Struct, frozen=True):
    """One line of the journal, to be written. `data`: bytes, stored as they are, or what msgspec.json.encode takes."""

    kind: str
    at: Instant
    data: Any = None


class Entry(Struct, frozen=True):
    """One line of the journal as stored. `data` is what was stored, to be decoded by whoever knows the kind."""

    seq: int  # grows by one, never reused, not even after pruning
    kind: str
    at: Instant
    data: bytes


class Outgoing(Struct, frozen=True):
    """One message to be queued. `message_id` is deterministic: queueing the same one twice keeps the first."""

    message_id: str
    incident: str
    audience: str
    kind: str
    payload: Any
    created: Instant


class Queued(Struct, frozen=True):
    """One message as stored. `state` is queued, sent, dropped or merged; `payload` is JSON text."""

    message_id: str
    incident: str
    audience: str
    kind: str
    payload: bytes
    created: Instant
    state: str
    tries: int
    next_try_s: float  # monotonic seconds of the boot `next_try_boot`; a time set in an earlier boot has come
    next_try_boot: str
    sent_at: float | None  # wall seconds since 1970, None where the clock was unknown or it was not sent
    answer: str  # the server's answer, or the last error
    maybe_taken: bool = (
        False  # once an answer was lost after the whole message had gone out: a resend may be a duplicate
    )


class Sent(Struct, frozen=True):
    """One message that a server took, and when."""

    message_id: str
    incident: str
    audience: str
    kind: str
    sent_mono_s: float | None  # monotonic seconds of the boot `sent_boot`; None for one sent by a store of format 1
    sent_boot: str
    sent_at: float | None  # wall seconds since 1970, None where the clock was unknown


class Snapshot(Struct, frozen=True):
    """The core's state as it was after the journal's line `seq` (clause C6)."""

    seq: int
    body: bytes


class Opening(Struct, frozen=True):
    """What opening the file found: `set_aside` names the damaged former file, `migrated_from` is the older format that
    the file had; None where there was none.
    """

    created: bool
    set_aside: str | None = None
    migrated_from: int | None = None


class Checked(Struct, frozen=True):
    """A store that this version can use: the format that the file has (0: no tables yet) and what was read."""

    found: int
    lines: int
    waiting: int
