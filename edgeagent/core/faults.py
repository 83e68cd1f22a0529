"""The catalogue of faults: everything the product can say is wrong, and what it takes to say so.

The words stand in :mod:`edgeagent.texts`. A fault is raised on the first turn on which its condition has held for
``visible_after_s``, cleared on the first on which it does not, and never blamed while one it ``depends_on`` is raised.
One that stays raised is mailed ``mail_after_s`` after its condition began, once, and its end once (see notices.py).
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgeagent.core.facts import Instant

SOON_S, LATER_S = 60.0, 900.0
CARRIED_S = 300.0  # by then a new run has met every fault that still holds: it knows nothing when it begins
UNLISTED = "router_version_unlisted"  # such a router is watched only
FAULT_INCIDENT = "fault-"  # how the incidents of faults are told from failovers

# Parts of the agent that tell of themselves (PartFailed, PartWorks).
PARTS = (*("leases", "rows", "version", "reading", "probes", "mail", "outbox", "store", "former store", "registrar"),)


class Fault(Struct, frozen=True):
    """One fault. ``severity``: ``critical`` (phones are affected), ``warning`` (protection is).

    ``mail_after_s`` None: never mailed, because it is about mail itself or the incident's own mail says it.
    """

    code: str
    severity: str
    audience: tuple[str, ...]
    visible_after_s: float = 0.0
    depends_on: tuple[str, ...] = ()
    mail_after_s: float | None = LATER_S


SUPPORT = ("support",)
# While the router cannot be asked for another reason, these would only say it again.
_ROUTER = ("control_silent", "router_untrusted", "router_login_refused", "router_unusable")

CATALOGUE: dict[str, Fault] = {
    fault.code: fault
    for fault in (
        Fault("no_path", "critical", ("customer", "support"), mail_after_s=SOON_S),
        Fault("backup_down", "warning", SUPPORT, depends_on=("control_silent",)),
        Fault("router_unreachable", "warning", SUPPORT, visible_after_s=10.0, depends_on=_ROUTER),
        Fault("router_login_refused", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("router_unusable", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("router_untrusted", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("router_policy_missing", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("router_refused", "warning", SUPPORT, visible_after_s=10.0),
        Fault(UNLISTED, "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("router_version_untested", "warning", SUPPORT, mail_after_s=None),
        Fault("router_unprovisioned", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("router_rules_not_applied", "warning", SUPPORT),
        Fault("router_held_by_other", "warning", SUPPORT, visible_after_s=1.0, mail_after_s=SOON_S),
        Fault("router_rows_differ", "warning", SUPPORT, visible_after_s=15.0),
        Fault("router_rows_fought_over", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("control_silent", "warning", SUPPORT, visible_after_s=5.0),
        Fault("alias_missing", "warning", SUPPORT, visible_after_s=5.0),
        Fault("ping_forbidden", "warning", SUPPORT),
        Fault("probes_not_sent", "warning", SUPPORT, depends_on=("alias_missing", "ping_forbidden")),
        Fault("call_over_drain_limit", "warning", SUPPORT, mail_after_s=0.0),
        Fault("canaries_silent", "warning", SUPPORT, visible_after_s=600.0),
        Fault("sip_silent", "warning", SUPPORT, visible_after_s=60.0),
        Fault("registrar_outside_prefixes", "warning", SUPPORT),
        # By an hour a resolver that is restarted or replaced is back; the last good address is used meanwhile.
        Fault("registrar_unresolved", "warning", SUPPORT, visible_after_s=3600.0, depends_on=("no_path",)),
        Fault("mail_refused", "warning", SUPPORT, mail_after_s=None),
        Fault("mail_login_refused", "warning", SUPPORT, mail_after_s=None),
        Fault("mail_untrusted", "warning", SUPPORT, mail_after_s=None),
        Fault("mail_unusable", "warning", SUPPORT, mail_after_s=None),
        Fault("mail_unreachable", "warning", SUPPORT, 600.0, depends_on=("no_path",), mail_after_s=None),
        Fault("mail_too_old", "warning", SUPPORT),
        Fault("store_full", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("store_readonly", "warning", SUPPORT, mail_after_s=SOON_S),
        Fault("store_hung", "warning", SUPPORT, visible_after_s=10.0),
        Fault("store_failed", "warning", SUPPORT, visible_after_s=2.0),
        Fault("store_newer", "warning", SUPPORT),
        Fault("store_set_aside", "warning", SUPPORT),
    )
}


class Told(Struct, frozen=True):
    """A fault that was mailed: under which incident, and since when its condition holds."""

    incident: str
    since: Instant


class FaultState(Struct, frozen=True):
    """Conditions that hold, by code, with the time since when; ``raised`` are those shown, ``told`` those mailed.

    ``carried``: those that a former run told and this one has not met yet; until ``carried_until_s`` (None before the
    first turn) they count as lasting, so that no restart tells of an end that was none (clause N6).
    """

    holding: dict[str, float] = {}
    raised: frozenset[str] = frozenset()
    told: dict[str, Told] = {}
    carried: frozenset[str] = frozenset()
    carried_until_s: float | None = None


def judged(state: FaultState, conditions: frozenset[str], now: Instant) -> FaultState:
    """The faults as of now, given the codes whose condition holds."""
    now_s = now.mono_s
    holding = {code: state.holding.get(code, now_s) for code in sorted(conditions)}
    ripe = {code for code, since_s in holding.items() if now_s - since_s >= CATALOGUE[code].visible_after_s}
    raised = frozenset(code for code in ripe if not ripe.intersection(CATALOGUE[code].depends_on))
    until_s = now_s + CARRIED_S if state.carried_until_s is None else state.carried_until_s
    carried = state.carried - holding.keys() if now_s < until_s else frozenset()
    told = {code: one for code, one in state.told.items() if code in holding or code in carried}
    for code in sorted(raised - told.keys()):
        after_s = CATALOGUE[code].mail_after_s
        if after_s is not None and now_s - holding[code] >= after_s:
            incident = f"{FAULT_INCIDENT}{code}-{now.boot_id[:8]}-{int(now_s * 1000):x}"
            told[code] = Told(incident, moment(now, holding[code]))
    return FaultState(holding=holding, raised=raised, told=told, carried=carried, carried_until_s=until_s)


def ripens_at(state: FaultState, now_s: float) -> float | None:
    """When the next held condition becomes visible, or is to be mailed."""
    due = [state.carried_until_s] if state.carried and state.carried_until_s is not None else []
    for code, since_s in state.holding.items():
        fault = CATALOGUE[code]
        due.append(since_s + fault.visible_after_s)
        if fault.mail_after_s is not None and code not in state.told:
            due.append(since_s + max(fault.mail_after_s, fault.visible_after_s))
    return min((at_s for at_s in due if at_s > now_s), default=None)


def moment(now: Instant, mono_s: float) -> Instant:
    """An earlier moment of this boot, its wall time told from the clock as it is now."""
    return replace(now, mono_s=mono_s, wall=None if now.wall is None else now.wall - (now.mono_s - mono_s))
