"""install.sh on a machine of its own, under a real systemd, from wheels and without a network.

The tests stand in the order of a machine's life. Each brings about the version that it starts from, so that one can be
run alone.
"""

from __future__ import annotations

import re

import pytest

from tests.service import wheels
from tests.service.site import ADDRESSES, OWN_READY_S, READY_S, SECRET, SERVICE, WATCHDOG_S, Site, until

pytestmark = pytest.mark.slow
BEFORE: dict[str, str] = {}
PLACES = ("/opt", "/etc", "/usr/local", "/var/lib", "/root", "/home")


def test_the_first_install_asks_for_the_sites_settings(site: Site) -> None:
    BEFORE["files"] = site.files(*PLACES)
    code, said = site.install("9.0.0")
    assert code == 0, said
    assert "cp /etc/edgeagent/site.toml.template /etc/edgeagent/site.toml" in said
    assert site.run("systemctl", "is-enabled", SERVICE, ADDRESSES).stdout == "enabled\nenabled\n"
    site.run("systemctl", "start", SERVICE)  # as a boot would
    assert site.shown(SERVICE, "ActiveState") == "inactive"
    assert site.sh("stat -c '%U %G %a' /etc/edgeagent /var/lib/edgeagent").splitlines() == [
        "root edgeagent 750",
        "edgeagent edgeagent 700",
    ]
    assert (wheels.ROOT / "docs" / "site.toml").read_text() == site.sh("cat /etc/edgeagent/site.toml.template")
    assert re.fullmatch(r"[0-9a-f]{32}\n", site.sh("cat /var/lib/edgeagent/installation-id"))
    assert site.sh("stat -c '%U %a' /var/lib/edgeagent/site.key") == "edgeagent 600\n"


def test_with_its_settings_it_runs_hardened_and_without_privilege(site: Site) -> None:
    site.at("9.0.0")
    assert site.shown(SERVICE, "StatusText").startswith("voice on primary")
    pid = site.shown(SERVICE, "MainPID")
    status = dict(line.split(":\t") for line in site.sh(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
    assert (status["CapEff"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")
    assert site.sh(f"stat -c %U /proc/{pid}") == "edgeagent\n"
    assert site.sh("stat -c '%U %a' /etc/edgeagent/router.password") == "root 600\n"
    said = site.log(SERVICE)
    assert not re.search(r"cannot send|not permitted|denied|fault raised.*probes", said), said
    assert SECRET not in said
    # Its probes go: it opened ICMP sockets on both alias addresses, which the one-shot gave it.
    assert {"10.88.77.2/29", "10.88.77.3/29"} < set(site.addresses())
    assert site.sh("tail -n +2 /proc/net/icmp | wc -l") == "4\n", "by each path to the targets and to the router"
    done = site.run("edgeagent", "status", check=False)
    assert done.returncode in (0, 1), "1 as soon as it says that the router does not answer"
    assert "voice on primary" in done.stdout


def test_without_its_mail_password_it_runs_and_without_the_routers_it_says_so(site: Site) -> None:
    site.at("9.0.0")
    try:
        site.sh("rm /etc/edgeagent/mail.password")
        site.run("systemctl", "restart", SERVICE)
        assert site.shown(SERVICE, "ActiveState") == "active"
        site.sh("rm /etc/edgeagent/router.password")
        site.run("systemctl", "restart", SERVICE)
        assert site.shown(SERVICE, "ActiveState") == "active"  # it probes all the same
        until(lambda: "FAULT router_unusable" in site.log(SERVICE))
        assert "/etc/edgeagent/router.password: No such file" in site.log(SERVICE)
    finally:
        site.settings()
        site.run("systemctl", "restart", SERVICE)


def test_the_same_version_again_changes_nothing(site: Site) -> None:
    site.at("9.0.0")
    until(lambda: site.shown(ADDRESSES, "ActiveState") == "active")
    pid, files = site.shown(SERVICE, "MainPID"), site.files("/opt", "/var/lib/edgeagent", "/etc/systemd", "/usr/local")
    code, said = site.install("9.0.0")
    assert (code, "nothing to do" in said) == (0, True), said
    assert site.shown(SERVICE, "MainPID") == pid
    assert site.files("/opt", "/var/lib/edgeagent", "/etc/systemd", "/usr/local") == files


def test_an_upgrade_switches_and_keeps_everything(site: Site) -> None:
    site.at("9.0.0")
    site.write_down("before-the-upgrade")
    pid, settings = site.shown(SERVICE, "MainPID"), site.sh("cat /etc/edgeagent/site.toml")
    identity = site.sh("cat /var/lib/edgeagent/installation-id /var/lib/edgeagent/site.key")
    code, said = site.install("9.0.1")
    assert code == 0, said
    assert site.current() == "9.0.1"
    assert site.shown(SERVICE, "MainPID") != pid
    assert site.versions() == {"9.0.0", "9.0.1"}, "the former one stays"
    assert "before-the-upgrade" in site.written()
    assert site.sh("cat /etc/edgeagent/site.toml") == settings
    assert site.sh("cat /var/lib/edgeagent/installation-id /var/lib/edgeagent/site.key") == identity
    assert site.shown(ADDRESSES, "ActiveState") == "active"
    site.at("9.0.0")


@pytest.mark.parametrize("bad", ["9.1.0", "9.1.1", "9.1.2"], ids=["not ready", "not ready, store migrated", "dies"])
def test_a_version_that_does_not_become_ready_goes_back_within_its_bound(site: Site, bad: str) -> None:
    site.at("9.0.0")
    site.prebuild(bad)
    site.write_down(f"before-{bad}")
    started = len(site.starts_s())
    code, said = site.install(bad, ready_s=READY_S)
    assert code == 1, said
    assert f"{bad} was not ready in {READY_S} s" in said
    assert "going back to 9.0.0" in said
    assert site.runs("9.0.0")
    assert f"before-{bad}" in site.written()
    assert bad not in site.versions()
    first_s, *_, back_s = site.starts_s()[started:]
    assert back_s - first_s < OWN_READY_S, "its bound and one stop, and not what it would take by itself"
    assert ("the store is as it was before" in said) == (bad == "9.1.1")
    assert site.sh("ls -d /var/lib/edgeagent/store-of-* 2> /dev/null | wc -l") == f"{int(bad == '9.1.1')}\n"
    site.sh("rm -rf /var/lib/edgeagent/store-of-*")
    assert site.install("9.0.0")[0] == 0


def test_an_upgrade_that_is_broken_off_goes_back(site: Site) -> None:
    site.at("9.0.0")
    site.prebuild("9.1.0")
    script = (
        "/mnt/9.1.0/install.sh --wheels /mnt/9.1.0 --ready 300 > /tmp/said 2>&1 & installer=$!; "
        "until [ $(readlink /opt/edgeagent/current) = /opt/edgeagent/9.1.0 ]; do sleep 0.2; done; "
        "kill $installer; wait $installer; echo $?; cat /tmp/said"
    )
    said = site.sh(script)
    assert said.startswith("130\n"), said
    assert site.runs("9.0.0")


def test_a_store_that_cannot_be_copied_stops_nothing(site: Site) -> None:
    site.at("9.0.0")
    site.prebuild("9.1.0")
    place = "/var/lib/edgeagent/before-upgrade"
    site.sh(f"rm -f {place}; mkdir {place}; mount -t tmpfs -o size=4k tmpfs {place}")
    try:
        code, said = site.install("9.1.0")
    finally:
        site.sh(f"umount {place}; rmdir {place}")
    assert code != 0, said
    assert "going back to 9.0.0" in said
    assert site.runs("9.0.0")


def test_a_version_that_refuses_the_settings_is_not_switched_to(site: Site) -> None:
    site.at("9.0.0")
    site.prebuild("9.2.0")
    pid, units = site.shown(SERVICE, "MainPID"), site.files("/etc/systemd")
    code, said = site.install("9.2.0")
    assert code == 1
    assert "site.toml: format: found 1, expected 999" in said
    assert "9.2.0 does not accept /etc/edgeagent/site.toml" in said
    assert (site.current(), site.shown(SERVICE, "MainPID"), site.files("/etc/systemd")) == ("9.0.0", pid, units)


def test_a_store_newer_than_the_version_is_refused_and_told(site: Site) -> None:
    site.at("9.0.0")
    pid = site.shown(SERVICE, "MainPID")
    (known,) = site.sql("PRAGMA user_version")
    site.sql("PRAGMA user_version=99")
    try:
        code, said = site.install("9.0.1")
        assert code == 1
        assert "format 99, this version knows" in said
        assert "9.0.1 cannot use the store" in said
        assert (site.current(), site.shown(SERVICE, "MainPID")) == ("9.0.0", pid)
    finally:
        site.sql(f"PRAGMA user_version={known}")
    site.at("9.0.1")  # the control: it was refused for its format, and for nothing else
    site.at("9.0.0")


def test_a_tampered_wheel_is_refused(site: Site) -> None:
    folder = site.share / "tampered"
    wheels.variant(site.share / "9.0.0", folder, "9.0.9", {})
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  edgeagent-9.0.9-py3-none-any.whl\n")
    code, said = site.install("tampered")
    assert (code, "is not the one that SHA256SUMS beside it names" in said) == (1, True), said


def test_systemd_itself_ends_an_agent_that_hangs_and_only_that(site: Site) -> None:
    site.at("9.0.0")
    place = f"/etc/systemd/system/{SERVICE}.d"
    try:
        setting = f"WatchdogSec={WATCHDOG_S}\\nTimeoutStopSec=2"
        site.sh(f"mkdir -p {place}; printf '[Service]\\n{setting}\\n' > {place}/test.conf")
        site.sh(f"systemctl daemon-reload; systemctl restart {SERVICE}")
        pid = site.shown(SERVICE, "MainPID")
        begun_s = site.heard_s()
        until(lambda: site.heard_s() > begun_s + WATCHDOG_S)  # the control: its signs of life carry it over its time
        assert (site.shown(SERVICE, "MainPID"), site.shown(SERVICE, "NRestarts")) == (pid, "0")
        site.run("kill", "-STOP", pid)
        until(lambda: int(site.shown(SERVICE, "NRestarts")) > 0)
        until(lambda: site.shown(SERVICE, "ActiveState") == "active")
        assert "watchdog" in site.log(SERVICE).lower()
    finally:
        site.sh(f"rm -rf {place}; systemctl daemon-reload; systemctl restart {SERVICE}")


def test_remove_leaves_settings_and_state_and_purge_leaves_nothing(site: Site) -> None:
    site.at("9.0.0")
    until(lambda: site.shown(ADDRESSES, "ActiveState") == "active")
    code, said = site.install("9.0.0", "--remove")
    assert code == 0, said
    assert site.run("systemctl", "is-active", SERVICE, ADDRESSES, check=False).stdout == "inactive\ninactive\n"
    assert site.addresses() == ["192.168.88.2/24"]
    assert site.sh("cat /proc/sys/net/ipv4/ping_group_range").split() == ["1", "0"]
    assert site.sh("test -f /etc/edgeagent/site.toml && test -f /var/lib/edgeagent/store.db && echo kept") == "kept\n"
    code, said = site.install("9.0.0", "--remove", "--purge")
    assert code == 0, said
    assert site.run("getent", "passwd", "edgeagent", check=False).returncode == 2
    assert site.run("getent", "group", "edgeagent", check=False).returncode == 2
    if "files" in BEFORE:
        names = [{line.split(" ")[0] for line in text.splitlines()} for text in (BEFORE["files"], site.files(*PLACES))]
        left = {
            name
            for name in names[1] - names[0]
            if not re.fullmatch(r"/etc/(sub)?(passwd|group|shadow|gshadow|[ug]id)-", name)
        }
        assert left == set()
