"""host.secrets: where a password is looked for, and that no error shows it."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent.host import secrets


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    (tmp_path / "handed").mkdir()
    (tmp_path / "router.password").write_text("from the file\n")
    return tmp_path


def test_what_systemd_handed_over_goes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(place / "router.password")
    assert secrets.read(path) == "from the file"
    (place / "handed" / "router.password").write_text("handed over\n")
    assert secrets.read(path) == "handed over"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert secrets.read(path) == "from the file"


def test_a_blank_credential_is_none(place: Path) -> None:
    (place / "handed" / "router.password").write_text(" ")
    assert secrets.read(str(place / "router.password")) == "from the file"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\n", "it is empty; expected a password in one line"),
        (b"s\xe9cret-of-the-test", "it is not UTF-8; expected a password in one line"),
        (b"secret-of-the-test" * 1000, "it is longer than 4096 bytes; expected a password in one line"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret_clause_x4(place: Path, content: bytes | None, why: str) -> None:
    path = place / "other.password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=why) as caught:
        secrets.read(str(path))
    assert (str(caught.value.filename), caught.value.strerror) == (str(path), why)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "cret-of-the-test" not in shown
    assert "\\xe9" not in shown


@pytest.mark.parametrize(
    ("credential", "why"),
    [
        (" ", "it was missing or empty when the service started"),  # as the unit gives it then
        (None, "expected a LoadCredential of the name router.password"),
    ],
)
def test_a_password_that_came_after_the_start_is_told_as_that_and_not_as_a_lack_of_permission(
    place: Path, monkeypatch: pytest.MonkeyPatch, credential: str | None, why: str
) -> None:
    path = place / "router.password"
    if credential is not None:
        (place / "handed" / "router.password").write_text(credential)

    def as_the_service(opened: Path, read: Callable[[Path], str] = secrets._text) -> str:
        if opened == path:  # root's, mode 0600
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(opened)

    monkeypatch.setattr(secrets, "_text", as_the_service)
    with pytest.raises(PermissionError, match=why) as caught:
        secrets.read(str(path))
    assert (str(caught.value.filename), "Permission" in str(caught.value)) == (str(path), False)
    assert str(caught.value.strerror).endswith("sudo systemctl restart edgeagent")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")  # by hand it is what it says
    with pytest.raises(PermissionError, match="Permission denied"):
        secrets.read(str(path))
