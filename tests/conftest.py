"""What all tests share: a skip must have a reason from the list, and long stories start before everything else."""

from __future__ import annotations

import os

import pytest

from hil.virtual.bench import can_run
from tests import beds
from tests.stories import Stories

SCHEMAS = "EDGEAGENT_ROUTEROS_SCHEMAS"
# With EDGEAGENT_NO_SKIPS=1 (as CI runs) a skip fails the run unless its reason begins with one of these. "needs root"
# and "not installed" are none: CI is root and installs what is missing.
REASONED_SKIPS: tuple[str, ...] = (
    # tests/adapters/test_store.py fills and breaks a disk: a container without the right to mount cannot make one.
    "cannot mount here: ",
    # MikroTik's schema files are no part of the repository. Where the variable names a folder, they must be in it.
    *(() if SCHEMAS in os.environ else (f"{SCHEMAS} does not name a folder",)),
)

_skipped: list[str] = []


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if not reason.startswith(REASONED_SKIPS):
            _skipped.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test or fixture that skips."""
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A whole file that skips."""
    _note_skip(report)


def pytest_sessionstart() -> None:
    """What a run left that was killed goes first."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        beds.clean_stale()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """However the session ends, nothing of its stories goes on."""
    global _stories
    if os.environ.get("EDGEAGENT_NO_SKIPS") == "1" and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if _stories is not None:
        ended, _stories = _stories, None
        kept = ended.stop(passed=session.exitstatus == pytest.ExitCode.OK)
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if kept and terminal is not None:
            terminal.write_line(f"\nlogs of the stories: {kept}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("EDGEAGENT_NO_SKIPS") == "1":
        for line in _skipped:
            terminalreporter.write_line(f"SKIP NOT ALLOWED {line}", red=True)


@pytest.fixture(scope="session")
def stories() -> Stories:
    """The kernel bench's stories, started by :func:`pytest_runtestloop` if any of their tests was chosen."""
    if _stories is None:
        pytest.skip(_cannot)
    return _stories


_stories: Stories | None = None
_cannot = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow files first, so that no worker is left alone with one; the stories are judged last of all."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name == "test_scenarios.py", item.path not in slow))


def pytest_runtestloop(session: pytest.Session) -> None:
    """Start the stories before the first test, so that the others run meanwhile."""
    global _stories, _cannot
    if session.config.option.collectonly or not any(item.path.name == "test_scenarios.py" for item in session.items):
        return
    _cannot = can_run()
    if not _cannot:
        _stories = Stories()
        _stories.start()
