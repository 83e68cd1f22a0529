"""The shell scripts, as shellcheck sees them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "provisioning/install.sh",
    "provisioning/make-wheels",
    "systemd/50-edgeagent-addresses",
    "tests/service/boot",
)
needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed; `make setup` as root installs it"
)


@needs_shellcheck
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_clean_and_a_spoilt_copy_is_not(name: str, tmp_path: Path) -> None:
    def complaints(path: Path) -> str:
        return subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False).stdout

    assert complaints(ROOT / name) == ""
    spoilt = tmp_path / "spoilt"
    spoilt.write_text((ROOT / name).read_text() + "\nrm -rf $unquoted/*\n")
    assert complaints(spoilt)
