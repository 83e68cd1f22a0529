"""A machine with the agent on it, and the versions of the agent that tests put there."""

from __future__ import annotations

import time
from collections.abc import Callable

from hil.virtual.routeros.certificate import make_certificate
from tests.agent.support import GOOD
from tests.service.machine import Machine

SERVICE, ADDRESSES = "edgeagent.service", "edgeagent-addresses.service"
MAIN = "edgeagent/daemon/wiring.py"
SECRET = "router-secret-of-the-test"
READY_S, OWN_READY_S = 6, 60  # the bound for versions that never become ready, and install.sh's own
WATCHDOG_S = 20  # as short as a healthy agent on a busy machine bears
# A version that does something else than run. It stands before the real main and ends it.
HANGS = "    import time\n    time.sleep(1e6)\n"
MIGRATES = (
    "    import sqlite3\n    db = sqlite3.connect(f'{site.state_folder}/store.db')\n"
    "    db.execute('PRAGMA user_version=99')\n    db.execute('CREATE TABLE later (x)')\n    db.close()\n"
)
WRITES = (  # a record, and the disk full
    "    import sqlite3\n    from contextlib import suppress\n    from pathlib import Path\n"
    "    with sqlite3.connect(f'{site.state_folder}/store.db') as db:\n"
    "        db.execute('INSERT INTO journal (boot_id, mono_s, wall_quality, kind, data) VALUES (?, 1, ?, ?, ?)',\n"
    "                   ('b', 'unknown', 'new', b'{}'))\n"
    "    db.close()\n    with suppress(OSError):\n"
    "        Path(f'{site.state_folder}/filler').write_bytes(bytes(10**7))\n"
)
LINKS = (
    "    import os\n    place = f'{site.state_folder}/store.db-x'\n    os.unlink(place)\n"
    "    os.symlink('/opt/victim', place)\n"
)
DIES = "    systemd.ready()\n    import time\n    time.sleep(1)\n    raise SystemExit(3)\n"
START = "    faulthandler.enable()"
VERSIONS: dict[str, dict[str, tuple[str, str]]] = {
    "9.0.0": {},
    "9.0.1": {},
    "9.1.0": {MAIN: (START, HANGS + START)},
    "9.1.1": {MAIN: (START, MIGRATES + HANGS + START)},
    "9.1.2": {MAIN: (START, DIES + START)},
    "9.1.3": {MAIN: (START, WRITES + HANGS + START)},
    "9.1.4": {MAIN: (START, LINKS + MIGRATES + HANGS + START)},
    "9.2.0": {"edgeagent/config/site.py": ("\nFORMAT = 1\n", "\nFORMAT = 999\n")},
}
SITE = (
    GOOD.replace("127.9.9.", "10.88.77.")
    .replace('address = "127.0.0.1"', 'address = "192.168.88.2"', 1)
    .replace("FOLDER/state", "/var/lib/edgeagent")
    .replace("FOLDER/control.sock", "/run/edgeagent/control.sock")
    .replace('ca_file = "FOLDER/mail.pem"\n', "")
    .replace("FOLDER/router.crt", "/etc/edgeagent/router.pem")
    .replace("FOLDER", "/etc/edgeagent")
)


class Site(Machine):
    """A machine with the agent on it, or about to have it."""

    def install(self, version: str, *options: str, ready_s: int | str = 60) -> tuple[int, str]:
        folder = f"/mnt/{version}"
        done = self.run(f"{folder}/install.sh", "--wheels", folder, "--ready", str(ready_s), *options, check=False)
        return done.returncode, done.stdout + done.stderr

    def at(self, version: str) -> None:
        """Bring about that this version runs."""
        if self.current() != version or self.run("systemctl", "is-active", SERVICE, check=False).stdout != "active\n":
            self.settings()
            code, said = self.install(version)
            assert code == 0, said + self.log(SERVICE)
        assert self.current() == version

    def prebuild(self, version: str) -> None:
        """Have the version's folder ready, from a copy of 9.0.0: what is built whole is not built again.

        Building takes most of an upgrade's time, and is proven by the two versions that are not prepared so.
        """
        wheel = f"/mnt/{version}/edgeagent-{version}-py3-none-any.whl"
        self.sh(f"""
            set -e; cd /opt/edgeagent; [ ! -e {version} ] || exit 0
            cp -a 9.0.0 {version}; cd {version}
            sed -i 's:/opt/edgeagent/9.0.0:/opt/edgeagent/{version}:g' pyvenv.cfg $(grep -lI /9.0.0/ bin/*)
            rm -rf lib/python3*/site-packages/edgeagent
            /usr/bin/python3 -m zipfile -e {wheel} unpacked
            mv unpacked/edgeagent lib/python3*/site-packages; rm -r unpacked
            sha256sum < {wheel} | cut -d ' ' -f 1 > wheel.sha256
        """)

    def settings(self) -> None:
        """What the installer of a site writes. No router answers there, which must not keep the agent from working."""
        place = self.share / "settings"
        if not place.exists():
            place.mkdir()
            make_certificate(place, "127.0.0.1")
            (place / "site.toml").write_text(SITE)
            (place / "password").write_text(f"{SECRET}\n")
        to = "/etc/edgeagent"
        self.sh(f"install -d {to}; cp /mnt/settings/site.toml {to}; cp /mnt/settings/router.crt {to}/router.pem")
        self.sh(f"for name in router mail; do cp /mnt/settings/password {to}/$name.password; done")

    def current(self) -> str:
        return self.sh("readlink /opt/edgeagent/current || true").strip().removeprefix("/opt/edgeagent/")

    def versions(self) -> set[str]:
        return set(self.sh("ls -A /opt/edgeagent").split()) - {"current"}

    def files(self, *places: str) -> str:
        """Every file's name, mode, owner, time and link, without what interpreter and agent write by themselves.

        Of a folder no time: a store is tried on a copy that lies beside it for a moment.
        """
        skipped = r"-name __pycache__ -prune -o -name 'store.db*' -o -name lastlog"
        folders, others = r"-type d -printf '%p %M %u %g\n'", r"-printf '%p %M %u %g %T@ %l\n'"
        return self.sh(f"find {' '.join(places)} {skipped} -o {folders} -o {others} | sort")

    def sql(self, question: str, *values: str) -> list[str]:
        """Asked of the store by a program of the test's own, as the agent's user: each row's first value."""
        code = "import sqlite3, sys; db = sqlite3.connect('/var/lib/edgeagent/store.db'); "
        code += "rows = db.execute(sys.argv[1], sys.argv[2:]).fetchall(); db.commit(); print(*(row[0] for row in rows))"
        as_agent = ("runuser", "-u", "edgeagent", "--", "/usr/bin/python3", "-c", code)
        return self.run(*as_agent, question, *values).stdout.split()

    def runs(self, version: str) -> bool:
        """Whether that is the version that runs; going back may say "not ready either" and still come to it."""
        until(lambda: self.shown(SERVICE, "ActiveState") == "active")
        return self.current() == version

    def starts_s(self) -> list[float]:
        """When systemd began to start the service, by the journal's clock in s."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--no-pager", "--output=short-monotonic", "--unit", SERVICE).stdout.splitlines()
        return [float(line[1:].split("]")[0]) for line in lines if "]: Starting " in line]

    def heard_s(self) -> float:
        """When the agent last gave systemd a sign of life, by the machine's clock in s."""
        return int(self.shown(SERVICE, "WatchdogTimestampMonotonic")) / 1e6

    def write_down(self, kind: str) -> None:
        """A line into the journal, as if something had happened."""
        row = "INSERT INTO journal (boot_id, mono_s, wall_quality, kind, data) VALUES ('b', 1, 'unknown', ?, x'7b7d')"
        self.sql(row, kind)

    def written(self) -> list[str]:
        return self.sql("SELECT kind FROM journal")


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 300.0
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.1)
