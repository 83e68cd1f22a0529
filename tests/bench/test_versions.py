"""The versions in a report: what can be had cheaply, and never a failure."""

from __future__ import annotations

import platform
import sys
import time

from hil.versions import versions


def test_a_program_is_asked_and_its_number_found() -> None:
    found = versions({"it": (sys.executable, "-c", "print('It version v4.96.1-2+deb #2 built 27-May')")}, 20.0)
    assert found == {"kernel": platform.release(), "python": platform.python_version(), "it": "4.96.1-2+deb"}


def test_missing_silent_and_slow_programs_are_left_out_in_time() -> None:
    begun_s = time.monotonic()
    found = versions({"gone": ("no-such-program",), "silent": ("true",), "slow": ("sleep", "60")}, 0.2)
    assert found.keys() == {"kernel", "python"}
    assert time.monotonic() - begun_s < 5.0
