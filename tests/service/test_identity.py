"""The installation's id and key: made once, whole, for its owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgeagent.cli.main import main
from edgeagent.host import keys
from edgeagent.host.installation import ID_FILE


def test_it_is_made_once_and_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    owner = (4242, 4343) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(folder, *owner)
    found = keys.create(folder)
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(held) == {ID_FILE, keys.KEY_FILE}
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert keys.create(folder) == keys.load(folder) == found
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held
    other = keys.create(tmp_path / "other")
    assert (other.installation, other.public) != (found.installation, found.public)
    assert other.installation != found.installation


def test_the_public_key_is_that_of_the_private_one(tmp_path: Path) -> None:
    found = keys.create(tmp_path)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public))
    public.verify(keys.site_key(tmp_path).sign(b"hello"), b"hello")


def test_of_two_at_once_one_wins_and_both_see_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: keys.create(tmp_path), range(8)))
    assert len(found) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("when", ["before the link", "after it"])
def test_a_crash_leaves_a_whole_file_or_none(when: str, tmp_path: Path) -> None:
    die = "import os; from pathlib import Path; from edgeagent.host import keys; folder = Path({folder!r}); "
    link = "link = Path.hardlink_to; Path.hardlink_to = lambda *a: ({before} or link(*a), os._exit(9)); "
    before = "os._exit(9)" if when == "before the link" else "None"
    code = die.format(folder=str(tmp_path)) + link.format(before=before) + "keys.create(folder)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert (tmp_path / ID_FILE).exists() == (when == "after it")
    kept = (tmp_path / ID_FILE).read_text().strip() if when == "after it" else None
    found = keys.create(tmp_path)
    assert kept in (None, found.installation)


@pytest.mark.parametrize(
    ("name", "content", "mode", "said"),
    [
        (ID_FILE, b"", 0o600, "found 0 characters, expected 32 hexadecimal digits"),
        (ID_FILE, b"\xff" * 32, 0o600, "found 32 characters, expected 32 hexadecimal digits"),
        (keys.KEY_FILE, b"", 0o600, "found no key that can be read, expected an Ed25519 private key"),
        (keys.KEY_FILE, None, 0o640, "found mode 0640, which lets others read it, expected mode 0600"),
    ],
)
def test_damage_is_told_and_nothing_overwritten(
    name: str, content: bytes | None, mode: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.create(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (tmp_path / name).chmod(mode)
    before = (tmp_path / name).read_bytes()
    for verb in ("--show", "--create"):
        assert main(["identity", verb, "--folder", str(tmp_path)]) == 2
        told = capsys.readouterr().err
        assert f"{tmp_path / name}: {said}" in told
        assert "PRIVATE" not in told
    assert (tmp_path / name).read_bytes() == before


def test_the_command_shows_the_public_half_only_clause_x4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = ["identity", "--show", "--folder", str(tmp_path)]
    assert main(show) == 1
    assert "not there yet" in capsys.readouterr().err
    assert main(["identity", "--create", "--folder", str(tmp_path)]) == 0
    created = capsys.readouterr().out
    found = keys.load(tmp_path)
    assert created == f"installation {found.installation}\npublic site key {found.public}\n"
    assert main(show) == 0
    assert capsys.readouterr().out == created
    secret = (tmp_path / keys.KEY_FILE).read_text().splitlines()[1]
    assert secret not in created


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["identity", "--create", "--folder", str(tmp_path / "file" / "state")]) == 2
    assert "Not a directory" in capsys.readouterr().err
