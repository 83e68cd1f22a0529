"""What all tests share: a skip must have a reason from the list, and long stories start before everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hil.virtual.bench import can_run
from tests.stories import Stories

# With EDGEAGENT_NO_SKIPS=1 (as CI runs) a skip fails the run unless its reason begins with one of these.
REASONED_SKIPS: tuple[str, ...] = ()

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if not reason.startswith(REASONED_SKIPS or ("\0",)):
            _skipped.append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("EDGEAGENT_NO_SKIPS") == "1" and _skipped and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("EDGEAGENT_NO_SKIPS") == "1":
        for line in _skipped:
            terminalreporter.write_line(f"SKIP NOT ALLOWED {line}", red=True)


@pytest.fixture(scope="session")
def stories() -> Iterator[Stories]:
    """The kernel bench's stories, started by :func:`pytest_runtestloop` if any of their tests was chosen."""
    if _stories is None:
        pytest.skip(_cannot)
    yield _stories
    _stories.stop()


_stories: Stories | None = None
_cannot = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The stories are judged last, when most of their time has passed."""
    items.sort(key=lambda item: item.path.name == "test_scenarios.py")


def pytest_runtestloop(session: pytest.Session) -> None:
    """Start the stories before the first test, so that the others run meanwhile."""
    global _stories, _cannot
    if session.config.option.collectonly or not any(item.path.name == "test_scenarios.py" for item in session.items):
        return
    _cannot = can_run()
    if not _cannot:
        _stories = Stories()
