"""A clause that does not hold."""

from __future__ import annotations


class ClauseViolation(AssertionError):
    """``clause`` is its name."""

    def __init__(self, clause: str, message: str) -> None:
        super().__init__(f"clause {clause}: {message}")
        self.clause = clause
