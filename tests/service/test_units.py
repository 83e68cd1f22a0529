"""The units: what the service manager itself thinks of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeagent.config.site import load
from edgeagent.daemon import watchdog, wiring

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "systemd" / "edgeagent.service"
EXPOSURE_MAX = 1.5
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed; `make setup` as root installs it"
)


def exposure(unit: Path) -> float:
    """The exposure level, 0 to 10 (systemd-analyze(1), "security")."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level.*: (\d+\.\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


def settings(unit: Path = UNIT) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


@needs_systemd
def test_the_exposure_is_low_and_a_weakened_copy_is_not(tmp_path: Path) -> None:
    assert exposure(UNIT) <= EXPOSURE_MAX
    weakened = tmp_path / UNIT.name
    weakened.write_text(re.sub(r"(?m)^(CapabilityBoundingSet|NoNewPrivileges|PrivateUsers)=.*\n", "", UNIT.read_text()))
    assert exposure(weakened) > EXPOSURE_MAX  # the control: the limit bites


@needs_systemd
@pytest.mark.parametrize("unit", sorted((ROOT / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_every_line_is_understood(unit: Path, tmp_path: Path) -> None:
    def complaints(path: Path) -> list[str]:
        command = ["systemd-analyze", "verify", "--man=no", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
        return [line for line in said if str(path) in line and "is not executable" not in line]

    assert complaints(unit) == []
    misspelt = tmp_path / unit.name
    misspelt.write_text(unit.read_text().replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert complaints(misspelt)


def test_the_agent_is_started_again_for_ever_and_fed_often_enough() -> None:
    found = dict(settings())
    wanted = {"Type": "notify", "NotifyAccess": "main", "Restart": "always", "StartLimitIntervalSec": "0"}
    assert {name: found[name] for name in wanted} == wanted
    assert float(found["WatchdogSec"]) >= 3 * watchdog.FEED_S
    assert found["RestartPreventExitStatus"] == "2", "the command line's: site.toml is wrong"
    assert found["RestartPreventExitStatus"] not in (str(wiring.FAILED), str(wiring.MOVED))


def test_every_secret_of_the_example_is_handed_over_and_may_be_missing() -> None:
    site = load(ROOT / "docs" / "site.toml")
    for path in (site.router.password_file, site.mail.password_file):
        assert ("LoadCredential", f"{Path(path).name}:{path}") in settings()
        assert ("SetCredential", rf"{Path(path).name}:\x20") in settings()
