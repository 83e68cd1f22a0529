"""What ends before its time leaves nothing behind: a bench told to stop, a session of tests, its stories."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.virtual import topology_netns as netns
from hil.virtual.bench import REPOSITORY, can_run
from hil.virtual.topology import ROLES, beds_folder
from tests.stories import PROVISIONING, STORIES

pytestmark = pytest.mark.slow
GUARD_S = 300.0  # no claim: it ends what would hang

FAKE = """
import signal, sys, time
from pathlib import Path
name = "-".join(sys.argv[1:-2])
def end(*_):
    Path("{0}", name + ".told").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "{1}" in name else end)
Path("{0}", name + ".begun").touch()
if "{3}" in name:
    log = Path(sys.argv[-1].removesuffix("json") + "events", "run", "bench.events")
    log.parent.mkdir(parents=True)
    log.write_text('{{"t": 1.0, "source": "bench", "event": "site up"}}')
time.sleep(600 if "{2}" in name else 0)
"""

# The grace begins when all that listen have noted that they were told: a busy machine does not shorten it.
PLUGIN = """
import sys, threading, time, types
from pathlib import Path
import tests.conftest, tests.stories

def monotonic():
    while threading.current_thread() is threading.main_thread() and len(list(Path({0!r}).glob("*.told"))) < {2}:
        time.sleep(0.02)
    return time.monotonic()

tests.stories.time = types.SimpleNamespace(monotonic=monotonic)
tests.stories.PROGRAM = (sys.executable, {0!r} + "/fake.py")
tests.stories.END_S = 2.0
tests.stories.AT_ONCE = {1}
tests.stories.UP_S = {3}
tests.conftest.can_run = lambda: ""
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where beds and temporary folders of this test are. Short: sockets are in it."""
    folder = Path(tempfile.mkdtemp(prefix="eb-end-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("EDGEAGENT_NO_SKIPS", raising=False)
    yield folder
    for pid in living(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + GUARD_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.05)


@pytest.mark.bench
def test_a_bench_told_to_end_clears_away_its_bed_and_says_so_with_143(place: Path) -> None:
    reason = can_run()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, "-m", "hil", "run", "lossy-primary", "--json", str(place / "report.json")]
    with (place / "run.log").open("w") as log, subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log) as run:
        try:
            wait_until(lambda: any(place.glob("report.events/*/phone-p6")))
            (bed,) = beds_folder().iterdir()
            assert len(netns.existing(f"eb-{bed.name}-")) > len(ROLES)
            run.send_signal(signal.SIGTERM)
            run.send_signal(signal.SIGTERM)
            assert run.wait(GUARD_S) == 128 + signal.SIGTERM, (place / "run.log").read_text()
        finally:
            run.kill()
    assert list(beds_folder().iterdir()) == []
    assert netns.existing(f"eb-{bed.name}-") == []


def session_of(
    place: Path,
    tests: str,
    *,
    long: str = "nothing",
    deaf: str = "nothing",
    up: str = "nothing",
    at_once: int = 100,
    up_s: float = 0.0,
    listening: int = 0,
) -> list[str]:
    """The command of a session whose stories are small programs.

    Those named ``long`` last, ``deaf`` ones also stay, ``up`` ones say that their site is up. The session waits for so
    many that are ``listening`` before it counts their time.
    """
    (place / "fake.py").write_text(FAKE.format(place, deaf, long, up))
    (place / "plugin.py").write_text(PLUGIN.format(str(place), at_once, listening, up_s))
    (place / "test_scenarios.py").write_text(tests)
    options = ["-p", "tests.conftest", "-p", "plugin", "-p", "no:cacheprovider", "-c", os.devnull]
    return [sys.executable, "-m", "pytest", *options, "--rootdir", str(place), str(place / "test_scenarios.py")]


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{place}"}


def finished(place: Path, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place,
        env={**environment(place), **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_S,
    )


def living(place: Path) -> list[int]:
    """The stories that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(place / "fake.py").encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


WAITING = """
import time
from pathlib import Path
def begun():
    from tests.stories import BITES, PROVISIONING, STORIES

    while len(list(Path(__file__).parent.glob("*.begun"))) < len(STORIES) + len(PROVISIONING) + len(BITES):
        time.sleep(0.02)
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [("assert False", 1), ("raise KeyboardInterrupt", 2), ("import os; os.kill(os.getpid(), 15)", -15)],
)
def test_stories_end_with_their_session_however_it_ends(place: Path, ending: str, code: int) -> None:
    tests = f"{WAITING}\ndef test_a(stories):\n    begun()\n    {ending}\n\ndef test_b():\n    pass\n"
    listening = len(STORIES) + len(PROVISIONING) - (1 if code > 0 else 0)  # of those that last, one is deaf
    deaf = "icmp" if code > 0 else "nothing"
    done = finished(place, [*session_of(place, tests, long="run", deaf=deaf, listening=listening), "-x"])
    assert done.returncode == code, done.stdout
    if code < 0:  # killed, it cannot wait for them
        wait_until(lambda: not living(place))
    assert living(place) == []
    assert len(list(place.glob("*.told"))) == listening
    (folder,) = place.glob("edgeagent-stories-*")
    assert code < 0 or f"logs of the stories: {folder}" in done.stdout


def test_no_more_stories_run_at_once_than_the_machine_bears(place: Path) -> None:
    tests = (
        "import time\nfrom pathlib import Path\n"
        "def begun():\n    return len(list(Path(__file__).parent.glob('*.begun')))\n"
        "def test_a(stories):\n    while begun() < 3:\n        time.sleep(0.05)\n"
        "    time.sleep(2.0)\n    assert begun() == 3\n"
    )
    done = finished(place, session_of(place, tests, long="run", at_once=3))
    assert done.returncode == 0, done.stdout


def test_a_story_is_begun_when_the_site_of_the_one_before_is_up(place: Path) -> None:
    tests = (
        "import time\nfrom pathlib import Path\n"
        "def begun():\n    return len(list(Path(__file__).parent.glob('*.begun')))\n"
        "def test_a(stories):\n    while begun() < 2:\n        time.sleep(0.02)\n"
        "    time.sleep(1.0)\n    assert begun() == 2\n"
    )
    done = finished(place, session_of(place, tests, long="run", up=STORIES[0][0], up_s=60.0))
    assert done.returncode == 0, done.stdout


def test_a_session_that_passes_leaves_no_folder(place: Path) -> None:
    tests = f"{WAITING}\ndef test_a(stories):\n    begun()\n"
    done = finished(place, session_of(place, tests))
    assert done.returncode == 0, done.stdout
    assert "logs of the stories" not in done.stdout
    assert not list(place.glob("edgeagent-stories-*"))


@pytest.mark.parametrize(
    ("skipping", "environ", "code"),
    [
        ("def test_b():\n    pytest.skip('no time')", {"EDGEAGENT_NO_SKIPS": "1"}, 1),
        ("def test_b():\n    pytest.skip('no time')", {}, 0),
        ("@pytest.mark.skip(reason='needs root')\ndef test_b(): ...", {"EDGEAGENT_NO_SKIPS": "1"}, 1),
        ("def test_b():\n    pytest.skip('cannot mount here: no right')", {"EDGEAGENT_NO_SKIPS": "1"}, 0),
        ("def test_b():\n    pytest.skip('SCHEMAS does not name a folder with')", {"EDGEAGENT_NO_SKIPS": "1"}, 0),
        (
            "def test_b():\n    pytest.skip('SCHEMAS does not name a folder with')",
            {"EDGEAGENT_NO_SKIPS": "1", "EDGEAGENT_ROUTEROS_SCHEMAS": "/nowhere"},
            1,
        ),
        ("pytest.skip('whole file', allow_module_level=True)", {"EDGEAGENT_NO_SKIPS": "1"}, 1),
        ("pytest.skip('whole file', allow_module_level=True)", {}, 0),
    ],
)
def test_only_reasoned_skips_pass_where_skips_are_forbidden(
    place: Path, monkeypatch: pytest.MonkeyPatch, skipping: str, environ: dict[str, str], code: int
) -> None:
    monkeypatch.delenv("EDGEAGENT_ROUTEROS_SCHEMAS", raising=False)
    command = session_of(place, "")
    (place / "test_good.py").write_text("def test_a():\n    pass\n")
    (place / "test_skips.py").write_text(
        "import pytest\n" + skipping.replace("SCHEMAS", "EDGEAGENT_ROUTEROS_SCHEMAS") + "\n"
    )
    done = finished(place, [*command[:-1], str(place)], **environ)
    assert done.returncode == code, done.stdout
    assert ("SKIP NOT ALLOWED" in done.stdout) == (code == 1)
