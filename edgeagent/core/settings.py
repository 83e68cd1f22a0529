"""The numbers that decisions use, with units and reasons. The configuration file may change some; see config."""

from __future__ import annotations

from msgspec import Struct

ALIVE_LIST = "edge-alive"  # holds EVERYTHING, under the name of the agent that leads, while it lives
EVERYTHING = "0.0.0.0/0"
PRIMARY_TAG = "wan"


class ProbingSettings(Struct, frozen=True):
    """How one path is probed and when it counts as dead.

    A path is dead after ``lost_rounds`` rounds in a row without any answer. Rounds are sent each ``interval_s``, and
    each ``fast_interval_s`` from the first wholly lost one on. A round counts as lost ``reply_wait_s`` after it was
    sent; a late reply still heals it.
    """

    interval_s: float
    active_interval_s: float  # while the path carries voice
    fast_interval_s: float
    reply_wait_s: float
    lost_rounds: int
    recover_rounds: int = 3  # a dead path is up again after so many answered rounds in a row
    unsteady_rounds: int = 6  # so many lost in a row start the hold anew; fewer is ordinary loss
    sip_every: int = 10  # of the rounds at interval_s; all of them once pings are filtered
    sip_every_fast: int = 3


# Unmetered. Twelve rounds at 0.1 s ride out 2 % loss in bursts of 0.25 s at about one false failover a year, and put
# the 95th percentile of detection at 2.6 s (Monte Carlo over Gilbert-Elliott channels, channel C).
PRIMARY_PROBING = ProbingSettings(
    interval_s=1.0, active_interval_s=1.0, fast_interval_s=0.1, reply_wait_s=0.25, lost_rounds=12
)
# Metered: one small echo a minute is 2.4 MB a month for a full frame both ways. An idle radio needs up to two seconds
# to wake, so one lost echo proves nothing.
BACKUP_PROBING = ProbingSettings(
    interval_s=60.0,
    active_interval_s=10.0,
    fast_interval_s=1.0,
    reply_wait_s=2.0,
    lost_rounds=4,
    recover_rounds=1,
    unsteady_rounds=4,
    sip_every=0,
    sip_every_fast=0,
)


class PathSettings(Struct, frozen=True):
    """One uplink. ``tag`` names it in the router: table ``edge-<tag>``, lists ``edge-<tag>-site`` and ``-phone``.

    As rounds name them: ``canaries``, the targets that the router itself checks for its native fallback, and
    ``registrar``, the provider's server.
    """

    name: str
    tag: str
    probing: ProbingSettings
    canaries: frozenset[str] = frozenset()
    registrar: str = ""

    @property
    def site_list(self) -> str:
        """The address list whose one entry moves the whole site onto this path."""
        return f"edge-{self.tag}-site"

    @property
    def phone_list(self) -> str:
        """The address list whose entries keep single phones on this path."""
        return f"edge-{self.tag}-phone"


class FailbackSettings(Struct, frozen=True):
    """When voice goes home."""

    hold_s: float = 30.0  # the primary must have been good so long; doubled with each failover in the last hour
    hold_hour_max_s: float = 900.0
    hold_day_max_s: float = 7200.0
    per_hour_max: int = 4  # failovers; kept by staying on the backup longer, never by staying on a dead line
    per_day_max: int = 12
    drain_limit_s: float = 7200.0  # after this an idle phone goes home whatever its rhythm; a call is named, never cut
    rows_back_s: float = (
        60.0  # a phone in a call whose rows are gone longer than a registration interval is gone itself
    )
    after_call_s: float = 2.0  # the far end's BYE and the phone's answer are over by then
    # A phone is released so long before its own next refresh: early enough that it has not spoken yet, late enough that
    # it cannot be called for some seconds only. Later than `refresh_late_s` the next refresh is waited for.
    refresh_lead_s: float = 4.0
    refresh_late_s: float = 1.5


class FlowSettings(Struct, frozen=True):
    """Reading the router's connection tracking."""

    home_every_s: float = 10.0
    away_every_s: float = 2.0
    returning_every_s: float = 1.0
    suspect_every_s: float = 0.4  # a growing answered flow refutes an outage that the probes claim
    again_after_s: float = 2.0  # rows that slipped in during the switch are moved by a second pass
    busy_bytes_per_s: float = 1000.0  # each way; G.729 is 3,000 with its headers, RTCP and keep-alives are below 100
    known_for_s: float = 7 * 86400.0
    phones_max: int = 500
    flows_max: int = 2500


class MailSettings(Struct, frozen=True):
    """When mails leave, and how many. Each audience's mailbox counts for itself, incidents and faults apart."""

    # How long the first mail of an incident waits for the incident to be undone: then one summary tells all of it.
    # Within the two minutes of clause N4 there is room left for a slow server.
    delay_s: float = 45.0
    per_hour_max: int = 6
    per_day_max: int = 20
    keep_s: float = 7 * 86400.0  # an older message is dropped, and that is a fault (clause N2)


class Settings(Struct, frozen=True):
    """All of it. ``paths[0]`` is the primary, the others are backups in order of preference."""

    site: str
    agent: str  # the agent's own LAN address
    paths: tuple[PathSettings, ...]
    failback: FailbackSettings = FailbackSettings()
    flows: FlowSettings = FlowSettings()
    mail: MailSettings = MailSettings()
    audiences: tuple[str, ...] = ("customer", "support")

    @property
    def primary(self) -> PathSettings:
        """The path that voice belongs on."""
        return self.paths[0]

    @property
    def lists(self) -> tuple[str, ...]:
        """Every address list that leases are held in."""
        return (ALIVE_LIST, *(name for path in self.paths for name in (path.site_list, path.phone_list)))

    def path(self, name: str) -> PathSettings:
        """The path of that name."""
        return next(path for path in self.paths if path.name == name)
