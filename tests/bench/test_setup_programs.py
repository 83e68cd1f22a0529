"""The installation of the bench's programs, with a package manager that only says what it would do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUBS = {
    "id": "echo 0",
    "dpkg-query": """
case "$*" in
    *binary:Package*) sed 's/^/installed /' "$PLACE/installed" ;;
    *) if grep -qx "${@: -1}" "$PLACE/installed"; then echo installed; else exit 1; fi ;;
esac""",
    "dpkg": 'echo "/lib/systemd/system/$2.service"; echo "/etc/init.d/$2"; echo "/usr/share/doc/$2"',
    "apt-get": """
echo "apt-get $*" >> "$PLACE/done"
for word in "$@"; do
    case "$1 $2 $word" in
        "install -s exim4-daemon-light") ! grep -qx postfix "$PLACE/installed" || echo "Remv postfix [3.7]" ;;
        "install -y "[a-z]*)
            [ -x "$EDGEAGENT_POLICY_RC_D" ] || exit 9
            [ "$word" != install ] && echo "$word" >> "$PLACE/installed"
            [ "$word" != "$BREAKS" ] || exit 7 ;;
    esac
done
exit 0""",
    "systemctl": 'echo "systemctl $*" >> "$PLACE/done"',
    "update-rc.d": 'echo "update-rc.d $*" >> "$PLACE/done"',
}


class Machine:
    """A machine with some packages."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.policy = place / "policy-rc.d"
        for name, text in STUBS.items():
            (place / name).write_text(f"#!/bin/bash\n{text}\n")
            (place / name).chmod(0o755)
        (place / "done").touch()

    def has(self, *but: str, and_also: str) -> None:
        """All packages of the bench but some, and one other."""
        wanted = (ROOT / "hil" / "debian-packages.txt").read_text().splitlines()
        names = [name for name in wanted if not name.startswith("#") and name not in but]
        (self.place / "installed").write_text("\n".join([*names, and_also]) + "\n")

    def set_up(self, breaks: str = "") -> tuple[int, str, list[str]]:
        (self.place / "done").write_text("")
        own = {"PLACE": str(self.place), "EDGEAGENT_POLICY_RC_D": str(self.policy), "BREAKS": breaks}
        done = subprocess.run(
            [str(ROOT / "tests" / "setup-programs")],
            env={**os.environ, **own, "PATH": f"{self.place}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return done.returncode, done.stdout + done.stderr, (self.place / "done").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def changes(done: list[str]) -> list[str]:
    return [line for line in done if not line.startswith("apt-get")]


def test_only_services_that_came_are_disabled_and_none_is_stopped(machine: Machine) -> None:
    machine.has("kamailio", and_also="nginx")
    code, told, done = machine.set_up()
    assert (code, told) == (0, "installing for the bench: kamailio\n")
    assert changes(done) == ["systemctl disable kamailio.service", "update-rc.d kamailio disable"]
    assert not machine.policy.exists()
    assert machine.set_up() == (0, "", [])


def test_a_failing_installation_disables_what_it_got_to_and_fails(machine: Machine) -> None:
    machine.has("kamailio", "rtpengine-daemon", and_also="nginx")
    code, _, done = machine.set_up(breaks="kamailio")
    assert code == 7
    assert "systemctl disable kamailio.service" in done
    assert not any("rtpengine" in line for line in changes(done))
    assert not machine.policy.exists()


def test_a_policy_of_the_users_stays(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 101\n")
    machine.policy.chmod(0o755)
    machine.has("kamailio", and_also="nginx")
    assert machine.set_up()[0] == 0
    assert machine.policy.read_text() == "#!/bin/sh\nexit 101\n"


def test_another_mail_server_is_named_and_stays_and_the_rest_is_installed(machine: Machine) -> None:
    machine.has("kamailio", "exim4-daemon-light", and_also="postfix")
    code, told, done = machine.set_up()
    assert code == 0
    assert "not installed: exim4-daemon-light, because this machine has postfix" in told
    installs = [line for line in done if line.startswith("apt-get install -y")]
    assert len(installs) == 1
    assert "--no-remove kamailio" in installs[0]
    assert "exim4" not in installs[0]
    code, told, done = machine.set_up()  # again: told again, and no list of packages is fetched
    assert code == 0
    assert "because this machine has postfix" in told
    assert not any("update" in line or "-y" in line for line in done)
