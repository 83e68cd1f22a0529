"""The configuration's fuzzer: its share of every run, the cases that it found, and readers broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.config import document, reader, site
from edgeagent.config.migrations import migrate
from edgeagent.config.reader import Problem, Reader
from edgeagent.config.site import ConfigError
from tests.agent.test_migrations import REMARKED, STEPS
from tests.fuzz import config
from tests.fuzz.mutator import mutated

CASES = sorted((Path(__file__).parent / "cases").glob("*.toml"))
Broken = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.slow
def test_twenty_thousand_mutated_files_give_a_site_or_name_every_fault_clause_x3_x4(tmp_path: Path) -> None:
    good, failures = config.run(20_000, 20260731, tmp_path)
    assert not failures, "\n".join(f"--first {number}: {why}" for number, why, _ in failures[:20])
    assert 600 < good < 10_000, "the mutations are too wild or too tame to prove anything"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_was_found_once_stays_mended(case: Path, tmp_path: Path) -> None:
    assert config.judge(case.read_bytes(), tmp_path) == case.stem.startswith("good-")


def test_a_mutated_file_of_an_older_format_is_migrated_or_left_as_it_is_clause_x3(tmp_path: Path) -> None:
    older = REMARKED.encode()
    path = tmp_path / "site.toml"
    done = 0
    for number in range(400):
        raw = mutated(20260731, number, (older,))
        path.write_bytes(raw)
        try:
            done += migrate(path, STEPS).copy is not None
            site.load(path, 1 + len(STEPS))
        except ConfigError as error:
            assert all(problem.found and problem.expected for problem in error.problems)
            assert path.read_bytes() == raw
        for left in tmp_path.glob("site.toml.format-*"):
            left.unlink()
        assert [one.name for one in tmp_path.iterdir()] == ["site.toml"]
    assert 8 < done < 300, "the mutations are too wild or too tame to prove anything"


def without_a_type_check(patch: pytest.MonkeyPatch) -> None:
    def text(self: Reader, key: str, default: str | None = None, *, most: int = 200) -> str:
        return self._take(key, default, lambda value: value if value.isprintable() else value[most], "a text", "")

    patch.setattr(Reader, "text", text)


def without_a_range(patch: pytest.MonkeyPatch) -> None:
    def whole(self: Reader, key: str, least: int, most: int, default: int | None = None) -> int:
        return self._take(key, default, int, "a whole number", least)

    patch.setattr(Reader, "whole", whole)


def without_a_comparison(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(site, "_check_differences", lambda found: iter(()))


def without_a_key(patch: pytest.MonkeyPatch) -> None:
    def problem(self: Reader, key: str, found: Any, expected: str) -> None:
        self.notes.problems.append(Problem("", reader.shown(key, found), expected))

    patch.setattr(Reader, "problem", problem)


def without_quotes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reader, "plain", lambda key: key)


def without_discretion(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reader, "shown", lambda key, found: repr(found)[:80])


def without_a_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(document, "_syntax", lambda said, text: Problem("format", "no TOML", "TOML"))


def raising(patch: pytest.MonkeyPatch) -> None:
    def shown(key: str, found: Any) -> str:
        return str("nothing" if found is None else found + 0 if isinstance(found, int) else found + "")[:80]

    patch.setattr(reader, "shown", shown)


def slow(patch: pytest.MonkeyPatch) -> None:
    real = document.table

    def table(raw: bytes, path: str) -> Any:
        while b"nan" in raw:
            pass
        return real(raw, path)

    patch.setattr(document, "table", table)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (without_a_type_check, "AttributeError"),
        (without_a_range, "taken for good"),
        (without_a_comparison, "taken for good"),
        (without_a_key, "does not say where"),
        (without_quotes, "not one short line"),
        (without_discretion, "a secret is in the message"),
        (without_a_line, "no line that the file has"),
        (raising, "TypeError"),
        (slow, "processor time"),
    ],
)
def test_control_a_reader_broken_on_purpose_is_caught(
    broken: Broken, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.run(50, 7, tmp_path)[1] == []
    broken(monkeypatch)
    for first in range(0, 5000, 50):
        if any(said in why for _, why, _ in config.run(50, 7, tmp_path, first)[1]):
            return
    pytest.fail("5,000 files did not find what is broken")
