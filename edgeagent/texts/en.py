"""English. Each text is a template over the values that the core gives with its code."""

from __future__ import annotations

SUBJECTS: dict[tuple[str, str], str] = {
    ("failover", "customer"): "{site_name}: your phones now run over the cellular backup",
    ("failover", "support"): "[{site}] FAILOVER: voice on {path}, primary down ({cause})",
    ("restored", "customer"): "{site_name}: your phones are back on your internet line",
    ("restored", "support"): "[{site}] RESTORED: voice returns to the primary after {duration} on {path}",
}

BODIES: dict[tuple[str, str], tuple[str, ...]] = {
    ("failover", "customer"): (
        "Your internet line stopped working at {began}.",
        "At {moved} your phones were moved to the cellular backup. Only phones use it; computers wait for the line.",
        "A call that was in progress may have gone silent: please hang up and dial again. Outgoing calls work at once. "
        "Incoming calls reach each phone again as soon as it has renewed its registration, usually within one to three "
        "minutes.",
        "You need not do anything. We will write again when the line is back.",
    ),
    ("failover", "support"): (
        "Site {site} ({site_name}) failed over.",
        "Primary judged dead: {cause_text}. Outage began: {began}. Voice moved to {path}: {moved}.",
        "Voice devices known: {phones}. In a call at that moment: {calls}.",
        "Incident {incident}.",
    ),
    ("restored", "customer"): (
        "Your internet line works again. Since {returned} your phones are going back to it.",
        "{calls_text}You need not do anything.",
    ),
    ("restored", "support"): (
        "Site {site} ({site_name}) returns to its primary line.",
        "On {path} since {moved}, returning since {returned}: {duration}.",
        "{calls_text}{died_text}Incident {incident}.",
    ),
}

CAUSES: dict[str, str] = {
    "probes": "no target answered any more, while the router itself did",
    "link": "the router lost the link of its primary port",
    "": "it was so when the agent started",
}

CALLS: dict[str, str] = {
    "none": "",
    "one": "One call is still in progress; it stays on the backup until it ends. ",
    "many": "{calls} calls are still in progress; each stays on the backup until it ends. ",
}
BACKUP_DIED = "The backup itself stopped working, so everything was moved at once. "
CLOCK_UNSURE = "(times are of an unset clock and may be wrong)"
TIME_UNKNOWN = "an unknown time"

# Every fault: what happened, what it means for the phones, what to do, who can.
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "no_path": (
        "Neither the primary line nor any backup works.",
        "The phones cannot call or be called.",
        "Check power and cables of modem and router; then call the internet provider.",
        "customer, support",
    ),
    "backup_down": (
        "The backup does not answer although the primary line works.",
        "The phones work now, but an outage of the line would silence them.",
        "Check the cellular modem: power, cable, antenna, SIM.",
        "support",
    ),
    "router_unreachable": (
        "The router's API does not answer.",
        "The phones work as long as the line does; the agent cannot move them.",
        "Check that the router runs, and its api-ssl service, user, password and certificate.",
        "support",
    ),
    "control_silent": (
        "The router does not answer on the LAN.",
        "Unknown: the agent cannot tell a dead line from its own cut cable.",
        "Check the cable between agent and router.",
        "support",
    ),
    "probes_not_sent": (
        "The agent cannot send its probes by the primary line.",
        "They work as long as the line does; an outage would not be noticed.",
        "Check that the agent's alias addresses are on its network card.",
        "support",
    ),
    "call_over_drain_limit": (
        "A call has kept a phone on the backup beyond the drain limit.",
        "The call goes on and is not cut; it uses the data plan.",
        "Nothing, or ask the customer whether the call is a forgotten one.",
        "support",
    ),
    "sip_silent": (
        "The primary line answers pings again, but the provider's server does not answer SIP over it.",
        "The phones stay on the backup, where they work.",
        "Check for a SIP filter or SIP ALG in the internet provider's modem.",
        "support",
    ),
}

SCREENS: dict[str, str] = {
    "status": "{site}: voice on {path} ({phase}) for {since_s:.0f} s; {phones} phones, {calls} in a call",
    "path": "  {name}: {verdict}, address {address}, last answer {answered} s ago",
    "fault": "  FAULT {code} since {since_s:.0f} s: {what} {meaning} To do ({who}): {todo}",
    "config ok": "{file}: good. Site {site}, paths {paths}.",
    "plan none": "The router is as wanted: nothing to change.",
    "plan count": "{count} changes; nothing has been changed yet. Apply them with --apply.",
    "plan flush": "Applying ends with one flush of the voice flows, calls in progress included: they may break off.",
    "flush failed": (
        "The router has too many {name} connections to be read, so none of them was flushed: calls and registrations "
        "that it fasttracks stay on their line until they end. The same command at a quiet hour flushes them."
    ),
    "applied": "{count} changes made.",
    "removed": "{count} rows removed.",
}
