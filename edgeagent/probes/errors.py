"""Why a probe says nothing about a path: it never left this machine. Such a probe is no loss (clause P5).

ProbeNotSent      (OSError)           this one probe did not leave; `reason` is one of REASONS
ProbeUnavailable  (OSError)           the prober cannot be opened
+-- ProbeForbidden  (PermissionError)  the system forbids this kind of socket; a person has to change a setting
NameUnresolved    (OSError)           a name's address could not be learnt
+-- NameUnknown                        it has none, as a resolver says
"""

import errno

REASONS = {
    "unroutable": (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENODEV, errno.ENXIO),
    "no-source": (errno.EADDRNOTAVAIL, errno.EINVAL),  # our alias address is gone from the network card
    "denied": (errno.EPERM, errno.EACCES),  # a packet filter of this machine
    "busy": (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM),
    "crowded": (),  # too many probes are still waiting for their answer
    "closed": (),
}


class ProbeNotSent(OSError):
    """This probe did not leave the machine, so it must not be counted as lost."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(f"probe not sent ({reason}): {detail}")

    @classmethod
    def from_os(cls, error: OSError, where: str) -> "ProbeNotSent":
        """Name the system's reason; anything unforeseen is "other"."""
        reason = next((name for name, codes in REASONS.items() if error.errno in codes), "other")
        return cls(reason, f"{where}: {error.strerror or error}")


class ProbeUnavailable(OSError):
    """The prober cannot be opened now, typically because its source address does not exist (yet).

    ``fault``: the fault of the catalogue (core/faults.py) that a person is told.
    """

    fault = "alias_missing"


class ProbeForbidden(ProbeUnavailable, PermissionError):
    """The system does not let this user open the socket."""

    fault = "ping_forbidden"


class NameUnresolved(OSError):
    """Nobody said what address a name has; another time or by another path somebody may."""


class NameUnknown(NameUnresolved):
    """A resolver answered that the name has no address."""
