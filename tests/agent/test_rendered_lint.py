"""Two linters that are not ours read every script for people, and the scripts within them. Each finds a broken one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from edgeagent.daemon.survey import wish
from edgeagent.routeros import fallback, scripts
from tests.rendered import DIALECTS, FOLDER, board, site

# By rule, then the file and the text that it is about: what is let pass, and why.
WAIVED = {
    ("schema/unknown-command", r"-6\.49\.rsc", r"'rule' is not .* in /ip route"): "its tree is of 7.21.4; so 6 has it",
    ("schema/unknown-parameter", r"/\S+-6\.49\.rsc", r"'(type|routing-mark)' is not"): "the same",
    ("schema/unknown-parameter", r"/rb2011-", r"'poe-out' is not"): "its tree is of a board without PoE",
    ("robustness/delay-in-loop", r"netwatch-|repeated", r":delay"): "ten rounds by :for from=1 to=10, and no more",
}
# Neither linter looks into a string: what routers run by themselves is given to them as a file of its own.
GIVEN = ("bound", "gateway-address", "lease-address")  # by the DHCP client

Finding = tuple[str, str, str]
"""Rule, file, text."""


def lsp(paths: list[Path], *options: str) -> list[Finding]:
    """What routeros-lsp finds; anything but a finding is an error of the run."""
    command = [sys.executable, "-m", "routeros_lsp", "check", "--format=json", *options, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    return [(one["rule"], one["path"], one["message"]) for one in found]


def auditor(paths: list[Path]) -> list[Finding]:
    """What the linter of mikrotik-rsc-auditor finds. By its file: it installs a package named like ours, ``tests``."""
    linter = distribution("mikrotik-rsc-auditor").locate_file("scripts/lint_rsc.py")
    command = [sys.executable, "-I", str(linter), "--json", "--strict", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [
        (one["rule"], file["file"], f"{one['message']} {one['snippet']}")
        for file in json.loads(done.stdout)
        for one in file["findings"]
    ]


def waived(finding: Finding) -> bool:
    return any(
        finding[0] == rule and re.search(file, finding[1]) and re.search(text, finding[2])
        for rule, file, text in WAIVED
    )


def within(folder: Path) -> list[Path]:
    """The scripts that routers run by themselves, each as a file."""
    texts = {}
    for version, dialect in DIALECTS.items():
        for model in ("rb2011", "hap-ac2"):
            (job,) = fallback.flush(wish(site(model), board(model, dialect)))
            texts[f"flush-{model}-{version}"] = job.attributes["on-event"]
            texts[f"repeated-{model}-{version}"] = scripts.repeated(job.attributes["on-event"])
        for tag in ("wan", "lte"):
            texts[f"lease-{tag}-{version}"] = scripts.lease(tag, dialect.rules)
    for name, text in texts.items():
        (folder / f"{name}.rsc").write_text(text + "\n")
    return sorted(folder.glob("*.rsc"))


def test_the_linters_find_nothing_in_the_files() -> None:
    paths = sorted(FOLDER.rglob("*.rsc"))
    assert len(paths) == 10
    found = [*lsp(paths), *auditor(paths)]
    assert [one for one in found if not waived(one)] == []
    unused = [
        waiver for waiver in WAIVED if not any(waiver[0] == one[0] and re.search(waiver[1], one[1]) for one in found)
    ]
    assert unused == []


def test_the_linters_find_nothing_in_what_routers_run_by_themselves(tmp_path: Path) -> None:
    paths = within(tmp_path)
    given = [f"--context-variable={name}" for name in GIVEN]
    found = [*lsp(paths, "--scope=script", *given), *auditor(paths)]
    assert [one for one in found if not waived(one)] == []


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (':put "^edge\\\\$|x"', "syntax/bad-interpolation"),  # stood in the DHCP script once
        ("/ip firewall mangle add chain=forward new-routing-table=x", "schema/unknown-parameter"),
        ("/ip frobnicate mangle add chain=forward", "schema/unknown-command"),
        (":local a 1\n:put $a", "vars/local-out-of-scope"),
        (":if (true) do={ :put 1", "syntax/missing-closer"),
    ],
)
def test_the_first_linter_bites(bad: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.rsc"
    path.write_text((FOLDER / "remove.rsc").read_text() + bad + "\n")
    found = lsp([path])
    assert [one[0] for one in found if not waived(one)] == [rule]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("/ip firewall filter remove [find]", "dangerous/unconditional-firewall-remove"),
        ("/ip firewall filter remove 0", "idempotency/fixed-id"),
        ("/ip route add gateway=192.0.2.1", "idempotency/unguarded-add"),
        ("/system script add name=x dont-require-permissions=yes", "security/dont-require-permissions"),
        (":while (true) do={\n  :delay 1s\n}", "robustness/delay-in-loop"),
    ],
)
def test_the_second_linter_bites(bad: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.rsc"
    path.write_text((FOLDER / "remove.rsc").read_text() + bad + "\n")
    assert rule in [one[0] for one in auditor([path]) if not waived(one)]
