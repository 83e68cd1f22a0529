"""The catalogue of faults: everything the product can say is wrong, and what it takes to say so.

The words stand in :mod:`edgeagent.texts`. A fault is raised on the first turn on which its condition has held for
``visible_after_s``, cleared on the first on which it does not, and never blamed while one it ``depends_on`` is raised.
"""

from __future__ import annotations

from msgspec import Struct


class Fault(Struct, frozen=True):
    """One fault. ``severity``: ``critical`` (phones are affected), ``warning`` (protection is)."""

    code: str
    severity: str
    audience: tuple[str, ...]
    visible_after_s: float = 0.0
    depends_on: tuple[str, ...] = ()


CATALOGUE: dict[str, Fault] = {
    fault.code: fault
    for fault in (
        Fault("no_path", "critical", ("customer", "support")),
        Fault("backup_down", "warning", ("support",), depends_on=("control_silent",)),
        Fault("router_unreachable", "warning", ("support",), visible_after_s=10.0),
        Fault("control_silent", "warning", ("support",), visible_after_s=5.0),
        Fault("probes_not_sent", "warning", ("support",)),
        Fault("call_over_drain_limit", "warning", ("support",)),
        Fault("sip_silent", "warning", ("support",), visible_after_s=60.0),
    )
}


class FaultState(Struct, frozen=True):
    """Conditions that hold, by code, with the time since when; ``raised`` are those told."""

    holding: dict[str, float] = {}
    raised: frozenset[str] = frozenset()


def judged(state: FaultState, conditions: frozenset[str], now_s: float) -> FaultState:
    """The faults as of now, given the codes whose condition holds."""
    holding = {code: state.holding.get(code, now_s) for code in sorted(conditions)}
    ripe = {code for code, since_s in holding.items() if now_s - since_s >= CATALOGUE[code].visible_after_s}
    raised = frozenset(code for code in ripe if not ripe.intersection(CATALOGUE[code].depends_on))
    return FaultState(holding=holding, raised=raised)


def ripens_at(state: FaultState, now_s: float) -> float | None:
    """When the next held condition becomes visible."""
    due = [since_s + CATALOGUE[code].visible_after_s for code, since_s in state.holding.items()]
    return min((at_s for at_s in due if at_s > now_s), default=None)
