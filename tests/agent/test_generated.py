"""Manual page and completions are those of the commands, and work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent.cli import main
from tests.generated import ROOT, generated

PAGE = ROOT / "docs" / "man" / "edgeagent.1"
BASH = ROOT / "provisioning" / "completion" / "edgeagent.bash"


def test_the_committed_files_are_those_that_the_commands_give() -> None:
    for path, content in generated().items():
        assert path.exists(), f"{path.name} is missing: make docs"
        assert path.read_text() == content, f"{path.name} is not what the commands give any more: make docs"


def test_the_same_bytes_come_out_whatever_the_terminal_and_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    first = generated()
    for columns, day in (("40", "0"), ("200", "2000000000")):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", day)
        assert generated() == first
    said = "".join(first.values())
    assert not re.search(r"20\d\d-|\b\d+\.\d+\.\d+\b", said), "a date or a version"
    assert str(ROOT) not in said


def test_a_command_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without it the comparison might compare nothing."""
    before = generated()
    monkeypatch.setattr(main, "COMMANDS", main.COMMANDS[:-1])
    after = generated()
    assert all(after[path] != before[path] for path in before)


def test_the_page_has_every_command_and_every_section() -> None:
    page = PAGE.read_text()
    for action in main.parser()._actions:
        for command in action.choices or ():
            assert rf"\fBedgeagent {command}\fR".replace("-", r"\-") in page
    sections = re.findall(r"^\.SH ?\n?(.+)$", page, re.MULTILINE)
    assert sections == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS"),
        *("EXIT STATUS", "FILES", "ENVIRONMENT", "SIGNALS", "SEE ALSO"),
    ]


def test_the_page_renders_without_a_warning() -> None:
    tool = ["mandoc", "-Tlint", "-Wwarning"] if shutil.which("mandoc") else ["groff", "-ww", "-man", "-z"]
    if shutil.which(tool[0]) is None:
        pytest.skip("neither mandoc nor groff is installed")
    done = subprocess.run([*tool, str(PAGE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def completed(*words: str) -> set[str]:
    """What bash offers for the last word."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_shtab_edgeagent; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(BASH), "edgeagent", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "docs",
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_files() -> None:
    subprocess.run(["bash", "-n", str(BASH)], check=True)
    assert {"run", "status", "check-config", "provision", "bundle"} <= completed("")
    assert completed("bun") == {"bundle"}
    assert "--output" in completed("bundle", "--o")
    assert "--plan" in completed("provision", "--")
    assert "--plan" not in completed("status", "--")
    assert "site.toml" in completed("--site", "site")
    assert completed("--site", "site.toml", "stat") == {"status"}


def test_zsh_takes_the_completion() -> None:
    """Where there is a zsh; elsewhere its first line and its function are all that can be looked at."""
    path = BASH.with_name("_edgeagent")
    assert path.read_text().startswith("#compdef edgeagent\n")
    if zsh := shutil.which("zsh"):
        subprocess.run([zsh, "-n", str(path)], check=True)


def test_make_docs_writes_them(tmp_path: Path) -> None:
    said = (ROOT / "Makefile").read_text()
    assert re.search(r"^docs: setup\n\t\$\(BIN\)/python -m tests\.generated$", said, re.MULTILINE)
    script = (
        "from pathlib import Path; from tests import generated as g; g.ROOT = Path(__import__('sys').argv[1]); g.main()"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=ROOT)
    for path in generated():
        assert (tmp_path / path.relative_to(ROOT)).read_text() == path.read_text()
