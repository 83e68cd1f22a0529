"""Mutated site.toml files: each is a Site or a ConfigError that names every fault (clauses X3, X4).

``python -m tests.fuzz.config --cases N --seed S [--first N]``. A file that breaks the rule is printed with its number;
kept as tests/fuzz/cases/NAME.toml it is checked in every run.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from edgeagent.config import document, effective, site
from edgeagent.config.document import FILE_MAX_BYTES
from edgeagent.config.reader import SECRET_KEY, Found, Problem
from edgeagent.config.site import ConfigError, Site
from tests.agent.support import GOOD, REGISTRAR
from tests.fuzz.mutator import SECRET, mutated

ROOT = Path(__file__).resolve().parents[2]
CPU_LIMIT_S = 1.0
PROBLEM_MAX = 600
LINE = re.compile(r"line (\d+)(, column \d+|, at the end of the file)?")
PLAIN = GOOD.replace("FOLDER", "/run/site")
NAMED = PLAIN.replace(REGISTRAR, "sbc.provider.example") + '[voice]\nresolvers = ["127.30.0.53"]\n'
BASES = (PLAIN.encode(), (ROOT / "docs" / "site.toml").read_bytes(), NAMED.encode())


class BrokenRule(Exception):
    """What must never happen."""


class TooSlow(BaseException):
    """No ``except Exception`` may catch it."""


def judge(raw: bytes, folder: Path) -> bool:
    """Whether the file is good; raises BrokenRule. A file that is too large is written into ``folder`` to be read."""
    large = len(raw) > FILE_MAX_BYTES
    table: dict[str, Found] | None = None

    def load() -> Site:
        nonlocal table
        if large:
            (folder / "site.toml").write_bytes(raw)
            return site.load(folder / "site.toml")
        table = document.table(raw, "site.toml")
        return site.parse(table, "site.toml")

    try:
        found = _limited(load)
    except ConfigError as error:
        if not large:
            _refused(error, raw, table)
        return False
    except TooSlow:
        raise BrokenRule(f"more than {CPU_LIMIT_S} s of processor time") from None
    except Exception as error:
        raise BrokenRule(f"{type(error).__name__}: {str(error)[:200]}") from error
    _sound(found)
    _lines(raw)
    return True


def _limited(work: Callable[[], Site]) -> Site:
    """Processor time, so that a busy machine makes no difference."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT_S)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def _refused(error: ConfigError, raw: bytes, table: dict[str, Found] | None) -> None:
    """``table``: what the file holds; None where it is no TOML, and then one fault says on which line."""
    if not error.problems or (table is None and len(error.problems) != 1):
        raise BrokenRule(f"refused with {len(error.problems)} faults")
    lines = raw.count(b"\n") + 1 if table is None else 0
    for problem in error.problems:
        _fault(problem, lines)
    if SECRET in str(error) and not (table and _secret_is_elsewhere(table)):
        raise BrokenRule("a secret is in the message")


def _fault(problem: Problem, lines: int) -> None:
    """``lines``: how many the file has, where it is no TOML; else 0."""
    if not (problem.key and problem.found and problem.expected):
        raise BrokenRule(f"a fault that does not say where, what was found or what was expected: {problem!r}")
    text = str(problem)
    if not text.isprintable() or len(text) > PROBLEM_MAX:
        raise BrokenRule(f"a fault that is not one short line: {problem!r}"[:PROBLEM_MAX])
    place = LINE.fullmatch(problem.key) if lines else None
    if lines and not (place and 1 <= int(place[1]) <= lines):
        raise BrokenRule(f"no TOML, and no line that the file has: {problem}")


def _secret_is_elsewhere(found: Found, named: bool = False) -> bool:
    """Whether the mutation put the secret where nobody could know it for one: as a key, or under a plain key."""
    if isinstance(found, dict):
        return any(
            SECRET in key or _secret_is_elsewhere(inner, bool(SECRET_KEY.search(key))) for key, inner in found.items()
        )
    if isinstance(found, list):
        return any(_secret_is_elsewhere(inner, named) for inner in found)
    return SECRET in str(found) and not named


def _sound(found: Site) -> None:
    """What every good site is, worked out without the reader's own checks."""
    try:
        msgspec.convert(msgspec.to_builtins(found), Site)  # each value is of its declared type
        registrar = found.provider.registrar
        named = registrar == found.provider.registrar_name
        addresses = [found.agent_address, found.router.address, found.router.alias_address, found.mail.server]
        for path in found.paths:
            addresses += [path.gateway, path.source, *(one for one in path.targets if not named or one != registrar)]
            assert re.fullmatch(r"[a-z][a-z0-9]{0,11}", path.name)
        assert all(re.fullmatch(r"[0-9.]{7,15}", one) and str(ipaddress.IPv4Address(one)) == one for one in addresses)
        voice = [ipaddress.IPv4Network(prefix) for prefix in found.provider.prefixes]
        if named:
            assert len(registrar) <= 240 and re.fullmatch(r"([a-z0-9-]{1,63}\.)+[a-z][a-z0-9-]*", registrar)
            assert found.voice.resolvers
        else:
            assert any(ipaddress.IPv4Address(registrar) in prefix for prefix in voice)
        assert found.paths[0].name == "primary"
        assert registrar in found.paths[0].targets
        sources = [found.router.alias_address, *(path.source for path in found.paths)]
        assert len(set(sources)) == len(sources)
        assert all(1 <= port <= 65535 for port in (found.router.port, found.mail.port, found.provider.registrar_port))
        assert 5 <= found.failback.hold_s <= 3600
        files = [found.state_folder, found.control_socket, found.router.password_file, found.router.certificate]
        assert all(re.fullmatch(r"/[^\x00-\x1f\x7f]*", one) for one in [*files, found.mail.password_file])
        assert len(found.control_socket.encode()) <= 100
        assert all(one.isprintable() and one.strip() for one in (found.id, found.name, found.router.user))
        assert all(re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", one) for one in (*found.mail.customer, *found.mail.support))
    except (AssertionError, ValueError, TypeError) as error:
        raise BrokenRule(f"taken for good, but is not: {error}") from error


def _lines(raw: bytes) -> None:
    """Where ``edgeagent config --origin`` names a line, the key's statement begins there."""
    lines = raw.decode().split("\n")
    for setting in effective.of(raw, "site.toml"):
        last = setting.key.rpartition(".")[2]
        if setting.line is not None and last not in lines[setting.line - 1] and "\\" not in lines[setting.line - 1]:
            raise BrokenRule(f"{setting.key} does not stand on line {setting.line}")


def run(cases: int, seed: int, folder: Path, first: int = 0) -> tuple[int, list[tuple[int, str, bytes]]]:
    """How many files were good, and those that broke a rule: number, why, file."""
    good, failures = 0, []
    for number in range(first, first + cases):
        raw = mutated(seed, number, BASES)
        try:
            good += judge(raw, folder)
        except BrokenRule as broken:
            failures.append((number, str(broken), raw))
    return good, failures


def main() -> int:
    """Many files of one seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good, failures = run(options.cases, options.seed, Path(folder), options.first)
    for number, why, raw in failures[:20]:
        text = raw[:4000].decode(errors="backslashreplace")
        sys.stdout.write(f"--- seed {options.seed}, --first {number}: {why}\n{text}\n")
    sys.stdout.write(
        f"configuration: {options.cases} mutated files, {good} good, {len(failures)} tracebacks or faults without key\n"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
