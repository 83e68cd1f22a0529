"""Nobody pays for SSH who does not use it: neither the daemon nor a command."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = "; import sys; print([name for name in ('paramiko', 'cryptography', 'rich') if name in sys.modules])"


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import edgeagent.cli.main as main; main.parser()", "[]"),
        ("import edgeagent.cli.run, edgeagent.daemon.wiring, edgeagent.daemon.loop, edgeagent.cli.bootstrap", "[]"),
        ("import edgeagent.routeros.ssh", "['paramiko', 'cryptography']"),  # the control: it would be seen
    ],
)
def test_ssh_is_loaded_where_it_is_used(code: str, loaded: str) -> None:
    done = subprocess.run([sys.executable, "-c", code + LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
