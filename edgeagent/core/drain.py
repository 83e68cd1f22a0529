"""Who is on the phone, and which phones may go home now.

The router's voice rows are all there is to see. A phone is *busy* while a media row of it moves bytes both ways. Its
own rhythm is learnt from its signalling rows: it spoke when their outgoing bytes grew and an answer came. A phone
without rows cannot be called until it registers, so an idle one is released just before it would speak anyway.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.facts import Flow, FlowKey, FlowsSeen
from edgeagent.core.settings import FailbackSettings, FlowSettings

BURST_S = 8.0  # a refusal, a challenge and the answer to it are one refresh, as is one retransmission
# The smallest REGISTER is larger, keep-alives (STUN 48 bytes, CRLF 32) are smaller. They must not count: after a
# keep-alive that finds another address a phone waits half a minute or more to register (RFC 5626 section 4.5).
REFRESH_BYTES = 250
CALL_EDGE_S = 10.0  # signalling so close to a call is the call's
SPOKE_MAX = 4


class Phone(Struct, frozen=True):
    """One voice device.

    ``busy_s``: when it was last seen busy. ``asked_s``: when it last sent signalling; ``spoke_s``: when its last
    answered refreshes were sent. ``nats``: the router addresses that its rows use. ``pinned``: it has media that stays
    on a backup.
    """

    seen_s: float
    busy_s: float | None = None
    asked_s: float | None = None
    spoke_s: tuple[float, ...] = ()
    nats: frozenset[str] = frozenset()
    pinned: bool = False

    @property
    def period_s(self) -> float | None:
        """The phone's rhythm: the lower median of its last gaps, so that one odd gap does not change it."""
        gaps = sorted(after - before for before, after in zip(self.spoke_s, self.spoke_s[1:], strict=False))
        return gaps[(len(gaps) - 1) // 2] if gaps else None


class Phones(Struct, frozen=True):
    """All voice devices by LAN address, and the byte counts of the last reading to compare with."""

    phones: dict[str, Phone] = {}
    counts: dict[FlowKey, tuple[int, int]] = {}
    read_s: float | None = None


def flows_seen(phones: Phones, fact: FlowsSeen, settings: FlowSettings) -> Phones:
    """Learn from one reading of the voice rows."""
    elapsed_s = fact.at_s - phones.read_s if phones.read_s is not None else None
    flows = fact.flows[: settings.flows_max]
    by_source: dict[str, list[Flow]] = {}
    for flow in flows:
        by_source.setdefault(flow.source, []).append(flow)
    known = {
        address: phone for address, phone in phones.phones.items() if fact.at_s - phone.seen_s < settings.known_for_s
    }
    for address, own in by_source.items():
        if address not in known and (len(known) >= settings.phones_max or not any(flow.repl_bytes for flow in own)):
            continue
        known[address] = _phone_seen(known.get(address), own, phones.counts, elapsed_s, fact.at_s, settings)
    for address in known.keys() - by_source.keys():
        known[address] = replace(known[address], nats=frozenset(), pinned=False)
    counts = {flow.key: (flow.orig_bytes, flow.repl_bytes) for flow in flows}
    return Phones(phones=known, counts=counts, read_s=fact.at_s)


def answered_on(phones: Phones, fact: FlowsSeen, address: str | None) -> float | None:
    """Since when a signalling row of this uplink address is known to have been answered; None when none was.

    Media proves nothing: the far end goes on talking when our side is no longer heard. The answer came somewhere
    between two readings, so only the earlier one is sure.
    """
    if address is None or phones.read_s is None:
        return None
    for flow in fact.flows:
        before = phones.counts.get(flow.key)
        if flow.media or flow.nat != address or before is None:
            continue
        if flow.orig_bytes > before[0] and flow.repl_bytes > before[1]:
            return phones.read_s
    return None


def busy(phone: Phone, now_s: float, settings: FailbackSettings) -> bool:
    """Whether the phone was in a call when it was last looked at, or a moment ago."""
    return phone.busy_s is not None and (phone.busy_s >= phone.seen_s or now_s - phone.busy_s < settings.after_call_s)


def cut_off(phone: Phone, now_s: float, settings: FailbackSettings) -> bool:
    """Whether a phone lost its rows in the middle of a call, as all do when the router reboots: they come back at once.

    If they have not after ``rows_back_s``, the phone is gone.
    """
    return busy(phone, now_s, settings) and now_s - phone.seen_s < settings.rows_back_s


def may_go(phone: Phone, since_s: float, now_s: float, settings: FailbackSettings) -> bool:
    """Whether a phone that waits since ``since_s`` may be released now."""
    if busy(phone, now_s, settings):
        return False
    if not phone.nats or now_s - since_s >= settings.drain_limit_s:
        return True
    due_s = next_refresh_s(phone, now_s)
    return due_s is not None and settings.refresh_late_s <= due_s - now_s <= settings.refresh_lead_s


def next_refresh_s(phone: Phone, now_s: float) -> float | None:
    """When the phone will speak next by its own rhythm; None while the rhythm is unknown."""
    period_s = phone.period_s
    if period_s is None:
        return None
    missed = max(0, int((now_s - phone.spoke_s[-1]) // period_s))
    return phone.spoke_s[-1] + (missed + 1) * period_s


def _phone_seen(
    phone: Phone | None,
    flows: list[Flow],
    counts: dict[FlowKey, tuple[int, int]],
    elapsed_s: float | None,
    at_s: float,
    settings: FlowSettings,
) -> Phone:
    phone = replace(
        phone or Phone(seen_s=at_s),
        seen_s=at_s,
        nats=frozenset(flow.nat for flow in flows),
        pinned=any(flow.pinned for flow in flows),
    )
    if not elapsed_s:
        return phone
    for flow in flows:
        sent, received = _grown(flow, counts)
        if not flow.media:
            phone = _signalled(phone, sent >= REFRESH_BYTES, received > 0, at_s - (flow.idle_s or 0.0))
        elif min(sent, received) / elapsed_s >= settings.busy_bytes_per_s:
            phone = replace(phone, busy_s=at_s)
    return phone


def _signalled(phone: Phone, sent: bool, received: bool, last_s: float) -> Phone:
    """Note signalling. Unanswered attempts and what belongs to a call are not the phone's rhythm."""
    if sent:
        phone = replace(phone, asked_s=last_s)
    if not received or phone.asked_s is None or last_s - phone.asked_s > BURST_S:
        return phone
    in_call = phone.busy_s is not None and last_s - phone.busy_s < CALL_EDGE_S
    if in_call or (phone.spoke_s and phone.asked_s - phone.spoke_s[-1] < BURST_S):
        return phone
    return replace(phone, spoke_s=(*phone.spoke_s[-(SPOKE_MAX - 1) :], phone.asked_s))


def _grown(flow: Flow, counts: dict[FlowKey, tuple[int, int]]) -> tuple[int, int]:
    """Bytes since the last reading; a row that is new counts from zero, one whose counters fell was made anew."""
    before = counts.get(flow.key, (0, 0))
    if flow.orig_bytes < before[0] or flow.repl_bytes < before[1]:
        before = (0, 0)
    return flow.orig_bytes - before[0], flow.repl_bytes - before[1]
