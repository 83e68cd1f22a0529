"""Which RouterOS versions the agent works with. Pure.

6.49 is the last of its line. 7.12 is the first 7 whose routing tables, rules and connection marks are known to do what
the standing rules need. Of 8 and later nothing is known: such a router is only watched.
"""

from __future__ import annotations

import re

KNOWN, UNTESTED, UNLISTED = "known", "untested", "unlisted"
LEAST_MINOR = {6: 49, 7: 12}
TESTED_MINOR = {6: 49, 7: 22}


def number(version: str) -> tuple[int, int]:
    """Major and minor of a version such as ``7.22.3 (stable)``; zeros where it is none."""
    found = re.match(r"(\d{1,3})\.(\d{1,5})(?!\d)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def standing(version: str) -> str:
    """``known``, ``untested`` (newer than any that was tested: used, with a warning) or ``unlisted`` (only watched)."""
    major, minor = number(version)
    if major not in LEAST_MINOR or minor < LEAST_MINOR[major]:
        return UNLISTED
    return KNOWN if minor <= TESTED_MINOR[major] else UNTESTED
