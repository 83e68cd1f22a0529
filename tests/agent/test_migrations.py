"""site.toml of an older format: brought forward whole, or left as it is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from edgeagent.config import migrations
from edgeagent.config.migrations import MIGRATIONS, migrate
from edgeagent.config.site import FORMAT, ConfigError, load
from tests.agent.support import GOOD

Document = tomlkit.TOMLDocument
REMARKED = (
    GOOD.replace("FOLDER", "/x")
    .replace("format = 1", "# Miller's file\nformat = 1   # never touch this")
    .replace("port = 8729", "api_port   =   8729      # the TLS one")
    .replace("hold_s = 5", "hold_minutes = 0.5   # long lines flap\n\n# the end")
)


def ports_renamed(tree: Document) -> None:
    """1 -> 2: router.api_port is called port."""
    router: Any = tree["router"]
    value = router["api_port"].unwrap()
    router.remove("api_port")
    router["port"] = value


def seconds(tree: Document) -> None:
    """2 -> 3: hold_minutes is hold_s."""
    failback: Any = tree["failback"]
    failback["hold_s"] = failback["hold_minutes"] * 60
    failback.remove("hold_minutes")


def broken(tree: Document) -> None:
    """A result that does not check."""
    tree["router"]["port"] = 0


STEPS = (ports_renamed, seconds)


def write(folder: Path, text: str = REMARKED) -> Path:
    path = folder / "site.toml"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    return path


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.iterdir()}


def refused(path: Path, steps: tuple[migrations.Step, ...]) -> str:
    """The message; nothing in the folder has changed."""
    before = everything(path.parent)
    with pytest.raises(ConfigError) as caught:
        migrate(path, steps)
    assert everything(path.parent) == before
    return str(caught.value)


def test_the_number_of_steps_is_the_number_of_the_format() -> None:
    assert len(MIGRATIONS) + 1 == FORMAT


def test_an_older_file_is_brought_forward_with_its_comments_and_layout(tmp_path: Path) -> None:
    path = write(tmp_path)
    done = migrate(path, STEPS)
    assert load(path, 3).failback.hold_s == 30.0
    text = path.read_text()
    changed = set(REMARKED.splitlines()) - set(text.splitlines())
    assert changed == {
        "format = 1   # never touch this",
        "api_port   =   8729      # the TLS one",
        "hold_minutes = 0.5   # long lines flap",
    }
    assert "format = 3   # never touch this" in text
    assert (done.before, done.after, done.copy) == (1, 3, tmp_path / "site.toml.format-1")
    assert {(one.key, one.before, one.after) for one in done.differences} == {
        ("format", "1", "3"),
        ("router.api_port", "8729", None),
        ("router.port", None, "8729"),
        ("failback.hold_minutes", "0.5", None),
        ("failback.hold_s", None, "30.0"),
    }
    assert (tmp_path / "site.toml.format-1").read_text() == REMARKED
    assert {one.name for one in tmp_path.iterdir()} == {"site.toml", "site.toml.format-1"}
    for one in tmp_path.iterdir():
        assert one.stat().st_mode & 0o777 == 0o640
    assert migrate(path, STEPS).copy is None


def test_only_the_steps_that_are_still_needed_run(tmp_path: Path) -> None:
    path = write(tmp_path, REMARKED.replace("format = 1", "format = 2").replace("api_port", "port"))
    assert migrate(path, STEPS).copy == tmp_path / "site.toml.format-2"
    assert load(path, 3).router.port == 8729


def test_a_current_file_is_not_touched(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = everything(tmp_path)
    assert migrate(path).copy is None
    assert everything(tmp_path) == before


def test_a_newer_file_is_refused_untouched_and_told_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path, REMARKED.replace("format = 1", "format = 4"))
    assert "install the newer version" in refused(path, STEPS)


@pytest.mark.parametrize("value", ["", "0", "-1", "true", "1.0", '"1"', "[1]", "1979-05-27"])
def test_a_format_that_is_none_is_refused_by_its_key(tmp_path: Path, value: str) -> None:
    text = REMARKED.replace("format = 1 ", f"format = {value} " if value else "# none ")
    assert "format: found" in refused(write(tmp_path, text), STEPS)


def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, REMARKED.replace("hold_minutes", "hold_hours"))
    assert "what cannot become format 3" in refused(path, STEPS)


def test_a_result_that_does_not_check_replaces_nothing(tmp_path: Path) -> None:
    message = refused(write(tmp_path), (*STEPS, broken))
    assert "once migrated to format 4: router.port: found 0" in message


def test_an_earlier_copy_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "site.toml.format-1").write_text("another")
    (tmp_path / "site.toml.new").write_text("of a run that was cut off")
    assert migrate(path, STEPS).copy == tmp_path / "site.toml.format-1.2"
    assert (tmp_path / "site.toml.format-1").read_text() == "another"
    write(tmp_path)
    assert migrate(path, STEPS).copy == tmp_path / "site.toml.format-1.2"
    assert not (tmp_path / "site.toml.new").exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    path = write(there)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    migrate(link, STEPS)
    assert link.is_symlink()
    assert load(link, 3).router.port == 8729


def test_windows_line_ends_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, REMARKED.replace("\n", "\r\n"))
    migrate(path, STEPS)
    raw = path.read_bytes()
    assert raw.count(b"\r\n") >= REMARKED.count("\n") - 3
    assert load(path, 3).failback.hold_s == 30.0


@pytest.mark.parametrize("call", ["fsync", "fchmod", "open"])
def test_a_disk_that_fails_at_any_step_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = write(tmp_path)
    real = getattr(os, call)
    for at in range(2):
        left = [at]

        def failing(*arguments: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        monkeypatch.setattr(os, call, failing)
        message = refused(path, STEPS)
        monkeypatch.undo()
        assert "no space left on device" in message
        assert "disk is not full" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path)
    os.chown(path, 12345, 54321)
    migrate(path, STEPS)
    for one in tmp_path.iterdir():
        assert (one.stat().st_uid, one.stat().st_gid) == (12345, 54321)


def test_an_older_format_is_named_with_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path), 3)
    assert [problem.key for problem in caught.value.problems] == ["format"]
    assert "run edgeagent check-config --migrate" in str(caught.value)


MIGRATE = """
import sys
from edgeagent.cli import check_config, main
from edgeagent.config import migrations, site
from tests.agent.test_migrations import STEPS
migrations.MIGRATIONS = STEPS
check_config.load = lambda path: site.load(path, 3)
sys.exit(main.main(sys.argv[1:]))
"""


def test_check_config_migrates_and_says_what_it_changed(tmp_path: Path) -> None:
    path = write(tmp_path)
    command = [sys.executable, "-c", MIGRATE, "--site", str(path), "check-config", "--migrate"]
    done, again = (subprocess.run(command, capture_output=True, text=True, timeout=30, check=False) for _ in "ab")
    assert (done.returncode, done.stderr) == (0, "")
    for said in ("from format 1 to 3", "site.toml.format-1", "router.port: added, 8729", "site.toml: good"):
        assert said in done.stdout
    assert (again.returncode, again.stderr) == (0, "")
    assert "already of format 3" in again.stdout
    path.write_text(path.read_text().replace("format = 3", "format = 9"))
    newer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert newer.returncode == 2
    assert "install the newer version" in newer.stderr
    assert "format = 9" in path.read_text()
