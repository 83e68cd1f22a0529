"""install.sh where something is in the way: wrong options, a full disk, a power cut, no listener, another Python.

On the same kind of machine as ``test_install``; each test leaves 9.0.0 running.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.service.site import READY_S, SERVICE, Site, until

pytestmark = pytest.mark.slow
STATE, KEPT = "/var/lib/edgeagent", "/var/lib/edgeagent/before-upgrade"
FORMER, CURRENT = "/opt/edgeagent/.former", "/opt/edgeagent/current"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d"
PAGES = ("man/man1/edgeagent.1", "bash-completion/completions/edgeagent.bash", "zsh/site-functions/_edgeagent")


def is_well(site: Site, version: str = "9.0.0") -> None:
    """This version runs, and nothing is left of an upgrade."""
    assert site.runs(version)
    assert site.sh(f"ls -d {FORMER} {KEPT} {KEPT}.new 2> /dev/null || true") == ""


@pytest.mark.parametrize("ready", ["60s", "2m", "abc", "08", "0", "-5", "", "100000"])
def test_a_bound_that_is_no_number_is_refused_before_anything_is_touched(site: Site, ready: str) -> None:
    site.at("9.0.0")
    site.prebuild("9.1.0")
    pid = site.shown(SERVICE, "MainPID")
    code, said = site.install("9.1.0", ready_s=ready)
    assert (code, said) == (1, f"edgeagent: --ready {ready}: expected whole seconds from 1 to 9999, such as 60\n")
    assert (site.current(), site.shown(SERVICE, "MainPID")) == ("9.0.0", pid)


def test_a_folder_that_is_not_there_is_named(site: Site) -> None:
    done = site.run("/mnt/9.0.0/install.sh", "--wheels", "/nowhere", check=False)
    assert (done.returncode, "--wheels /nowhere: there is no such folder" in done.stderr) == (1, True), done.stderr


def test_space_is_asked_for_only_where_something_is_built(site: Site) -> None:
    site.at("9.0.0")
    site.sh("rm -rf /opt/edgeagent/9.0.1; printf '#!/bin/sh\\necho Avail; echo 1M\\n' > /usr/local/bin/df")
    try:
        site.sh("chmod +x /usr/local/bin/df")
        code, said = site.install("9.0.0")
        assert (code, "nothing to do" in said) == (0, True), said
        code, said = site.install("9.0.1")
        assert (code, "1 MiB are free for /opt/edgeagent; expected 250" in said) == (1, True), said
    finally:
        site.sh("rm /usr/local/bin/df")
    is_well(site)


def test_manual_and_completions_are_those_of_the_version_that_runs(site: Site) -> None:
    site.at("9.0.0")
    for page in PAGES:
        assert site.sh(f"readlink -e /usr/local/share/{page}") == f"/opt/edgeagent/9.0.0/share/{page}\n"
    if site.run("sh", "-c", "command -v man", check=False).returncode == 0:
        assert site.sh("man -w edgeagent") == f"/opt/edgeagent/9.0.0/share/{PAGES[0]}\n"


def test_nobody_who_listens_keeps_it_from_going_back(site: Site) -> None:
    site.at("9.0.0")
    site.prebuild("9.1.0")
    switched = f'until [ "$(readlink {CURRENT})" = /opt/edgeagent/9.1.0 ]; do sleep 0.1; done'
    site.sh(f"/mnt/9.1.0/install.sh --wheels /mnt/9.1.0 --ready {READY_S} 2>&1 | {{ {switched}; }}")
    is_well(site)


def test_what_has_changed_since_the_start_is_taken_by_a_start(site: Site) -> None:
    site.at("9.0.0")
    versions = site.versions()
    handed = f"cat /run/credentials/{SERVICE}/router.password"
    for name, change in (
        ("router.password", "echo another-one > /etc/edgeagent/router.password"),
        ("router.pem", "touch /etc/edgeagent/router.pem"),
        ("site.toml", "touch /etc/edgeagent/site.toml"),
    ):
        pid = site.shown(SERVICE, "MainPID")
        site.sh(change)
        if name == "router.password":
            assert site.sh(handed) != "another-one\n", "systemd does not hand it over by itself"
        code, said = site.install("9.0.0")
        assert code == 0, said
        assert f"changed since the agent was started: {name}. It is started anew." in said
        assert site.shown(SERVICE, "MainPID") != pid
        assert site.sh(handed) == "another-one\n"
        pid = site.shown(SERVICE, "MainPID")
        assert "nothing to do" in site.install("9.0.0")[1]
        assert site.shown(SERVICE, "MainPID") == pid
    assert site.versions() == versions, "the one before stays too"
    site.settings()
    assert site.install("9.0.0")[0] == 0
    is_well(site)


def test_with_another_python_the_version_is_built_anew(site: Site) -> None:
    """As after a release upgrade of Debian: the interpreter has another number, and looks elsewhere for packages."""
    site.at("9.0.0")
    pid = site.shown(SERVICE, "MainPID")
    site.sh("cd /opt/edgeagent/9.0.0/lib && mv python3.* python3.0")
    code, said = site.install("9.0.0")
    assert code == 0, said
    assert "what is in /opt/edgeagent/9.0.0 does not run with Python 3." in said
    assert site.shown(SERVICE, "MainPID") != pid
    is_well(site)


def cut_off(site: Site, version: str, store_format: str) -> None:
    """Kill the installer as a power cut would, once it has switched and the store is of this format; the unit stays."""
    site.at("9.0.0")
    site.prebuild(version)
    run = f"setsid sh -c 'echo $$ > /tmp/pid; exec /mnt/{version}/install.sh --wheels /mnt/{version} --ready 300'"
    site.sh(f"rm -f /tmp/pid; {run} > /tmp/said 2>&1 &")
    until(lambda: site.current() == version)
    until(lambda: site.sql("PRAGMA user_version") == [store_format])
    site.sh(f"kill -9 -$(cat /tmp/pid); systemctl --no-block kill -s KILL {SERVICE}")
    assert site.sh(f"readlink {FORMER}") == "/opt/edgeagent/9.0.0\n"


def test_a_good_version_that_a_power_cut_left_unproven_is_proven_by_the_next_run(site: Site) -> None:
    site.at("9.0.0")
    (known,) = site.sql("PRAGMA user_version")
    cut_off(site, "9.0.1", known)
    code, said = site.install("9.0.1")
    assert code == 0, said
    assert "the upgrade to 9.0.1 was cut off before it was seen to work" in said
    assert "9.0.1 runs, after 9.0.0." in said
    assert {"9.0.0", "9.0.1"} <= site.versions()
    is_well(site, "9.0.1")
    site.at("9.0.0")


def test_a_bad_version_that_a_power_cut_left_unproven_goes_back_by_the_next_run(site: Site) -> None:
    site.at("9.0.0")
    site.write_down("before-the-cut")
    cut_off(site, "9.1.1", "99")
    code, said = site.install("9.1.1", ready_s=READY_S)
    assert code == 1, said
    assert "going back to 9.0.0" in said
    assert "the store is as it was before" in said
    assert "before-the-cut" in site.written()
    assert "9.1.1" not in site.versions()
    is_well(site)
    site.sh(f"rm -rf {STATE}/store-of-*")


@pytest.mark.parametrize("aside", [False, True], ids=["nothing of the store moved yet", "half of it moved"])
def test_a_going_back_that_was_cut_off_is_brought_to_its_end(site: Site, aside: bool) -> None:
    site.at("9.0.0")
    site.write_down("before-the-cut")
    (known,) = site.sql("PRAGMA user_version")
    cut_off(site, "9.1.1", "99")
    site.sh(f"systemctl stop {SERVICE}; ln -sfn /opt/edgeagent/9.0.0 {CURRENT}")
    if aside:
        site.sh(f"cd {STATE}; rm -f store.db*; [ ! -e {KEPT}/store.db-wal ] || mv {KEPT}/store.db-wal .")
    code, said = site.install("9.0.0")
    assert code == 0, said
    assert "the store is as it was before" in said
    assert (site.sql("PRAGMA user_version"), "before-the-cut" in site.written()) == ([known], True)
    is_well(site)
    site.sh(f"rm -rf {STATE}/store-of-*")


@pytest.fixture
def small(site: Site) -> Iterator[Site]:
    """The state folder on a disk of its own, of a few MiB."""
    site.at("9.0.0")
    site.sh(f"""
        set -e; systemctl stop {SERVICE}; cp -a {STATE} /tmp/state; mount -t tmpfs -o size=4m tmpfs {STATE}
        chown edgeagent: {STATE}; chmod 700 {STATE}; cp -a /tmp/state/. {STATE}; systemctl start {SERVICE}
    """)
    yield site
    site.sh(f"systemctl stop {SERVICE}; umount {STATE}; rm -rf /tmp/state {FORMER}")
    site.at("9.0.0")


def test_a_full_disk_stops_an_upgrade_and_is_named(small: Site) -> None:
    pid = small.shown(SERVICE, "MainPID")
    small.prebuild("9.0.1")
    small.sh(f"head -c 9M /dev/zero > {STATE}/filler || true")
    code, said = small.install("9.0.1")
    assert code == 1, said
    assert "no space is left" in said
    assert "could not be tried, as said above: it is the disk, of which 0 MiB are free" in said
    assert "Install the version that wrote it" not in said
    assert (small.current(), small.shown(SERVICE, "MainPID")) == ("9.0.0", pid)
    small.sh(f"rm {STATE}/filler")
    small.at("9.0.1")  # the control: it was refused for the disk, and for nothing else


def test_going_back_on_a_full_disk_keeps_every_store_until_it_can_be_told(small: Site) -> None:
    small.prebuild("9.1.3")
    small.write_down("before-the-upgrade")
    code, said = small.install("9.1.3", ready_s=READY_S)
    assert code == 1, said
    assert "whether 9.0.0 can read the store could not be tried" in said
    assert small.runs("9.0.0")
    assert set(small.sh(f"ls -d {KEPT}/store.db {FORMER}").split()) == {f"{KEPT}/store.db", FORMER}
    assert small.install("9.0.0")[0] == 1, "still full: still kept"
    assert small.sh(f"ls -d {KEPT}/store.db") == f"{KEPT}/store.db\n"
    small.sh(f"rm {STATE}/filler")
    assert {"before-the-upgrade", "new"} <= set(small.written()), "what could be read was not thrown out"
    code, said = small.install("9.0.0")
    assert code == 0, said
    assert {"before-the-upgrade", "new"} <= set(small.written())
    assert small.sh(f"ls {STATE} | grep store-of- || true") == ""
    is_well(small)


def test_root_writes_through_no_link_in_the_agents_folder(site: Site) -> None:
    site.at("9.0.0")
    site.prebuild("9.1.4")
    site.sh(f"echo roots > /opt/victim; runuser -u edgeagent -- sh -c 'echo agents > {STATE}/store.db-x'")
    try:
        code, said = site.install("9.1.4", ready_s=READY_S)
        assert (code, "the store is as it was before" in said) == (1, True), said
        assert site.sh(f"cat /opt/victim; cat {STATE}/store.db-x; stat -c %F {STATE}/store.db-x").split("\n")[:3] == [
            "roots",
            "agents",
            "regular file",
        ]
        is_well(site)
    finally:
        site.sh(f"rm -rf /opt/victim {STATE}/store.db-x {STATE}/store-of-*")


def test_a_broken_site_toml_is_told_once_and_waits_for_its_correction(site: Site) -> None:
    site.at("9.0.0")
    said = site.log(SERVICE)
    site.sh(f"echo 'nonsense = 1' >> /etc/edgeagent/site.toml; systemctl restart {SERVICE} || true")
    until(lambda: site.shown(SERVICE, "ActiveState") == "failed")  # a restart that is to come is "activating"
    assert (site.shown(SERVICE, "ExecMainStatus"), site.shown(SERVICE, "NRestarts")) == ("2", "0")
    faults = [line for line in site.log(SERVICE)[len(said) :].splitlines() if "nonsense" in line]
    assert len(faults) == 1, faults
    site.settings()
    assert site.install("9.0.0")[0] == 0
    is_well(site)


@pytest.mark.parametrize(("status", "again"), [(1, True), (2, False), (3, True), (4, True)])
def test_only_a_broken_site_toml_keeps_it_from_being_started_again(site: Site, status: int, again: bool) -> None:
    site.at("9.0.0")
    ends = f'[Service]\\nType=simple\\nExecStart=\\nExecStart=/bin/sh -c "exit {status}"\\n'
    try:
        site.sh(f"mkdir -p {DROP_IN}; printf '{ends}' > {DROP_IN}/test.conf; systemctl daemon-reload")
        site.sh(f"systemctl restart {SERVICE}")
        if again:
            until(lambda: int(site.shown(SERVICE, "NRestarts")) >= 2)
        else:
            until(lambda: site.shown(SERVICE, "ActiveState") == "failed")
            assert site.shown(SERVICE, "NRestarts") == "0"
    finally:
        site.sh(f"rm -rf {DROP_IN}; systemctl daemon-reload; systemctl restart {SERVICE}")
    is_well(site)


ASK = """
import ctypes, json
libc, state = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(1024)
asked = libc.adjtimex(state), ctypes.get_errno()
ctypes.c_uint.from_buffer(state).value = 0x0010  # ADJ_STATUS, to what it is already
print(json.dumps([*asked, libc.adjtimex(state), ctypes.get_errno()]))
"""


def test_inside_the_unit_the_kernel_may_be_asked_for_the_clock_and_not_told(site: Site) -> None:
    """chrony and ntpd leave no stamp: only the kernel tells that they have set the clock (L2)."""
    site.at("9.0.0")
    (site.share / "ask.py").write_text(ASK)
    probe = "/run/systemd/system/ask.service"

    def asked(more: str = "") -> list[int]:
        site.sh(f"""
            sed -e 's:^ExecStart=.*:ExecStart=/usr/bin/python3 /mnt/ask.py:; s:^Type=.*:Type=oneshot:' \\
                -e '/^Restart/d; /^\\(State\\|Runtime\\|Configuration\\)Directory/d' \\
                /etc/systemd/system/{SERVICE} > {probe}
            printf '[Service]\\n{more}\\n' >> {probe}; systemctl daemon-reload
        """)
        site.run("systemctl", "start", "ask.service")
        found: list[int] = json.loads(re.findall(r"(?m)^\[.*\]$", site.log("ask.service"))[-1])
        return found

    outside = json.loads(site.sh("python3 /mnt/ask.py"))
    inside = asked()
    assert inside[:2] == outside[:2]
    assert inside[0] >= 0
    assert inside[2:] == [-1, 1], "EPERM: nobody inside sets it"
    assert asked("ProtectClock=yes")[:2] == [-1, 1], "the control: this is what kept it from asking"
    site.sh(f"rm {probe}; systemctl daemon-reload")
