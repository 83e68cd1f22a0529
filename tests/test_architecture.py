"""The structure is a test: who may import whom, and why not."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
AGENT = ROOT / "edgeagent"

# Floors, from the top. A module imports lower floors or its own package; siblings never import siblings.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("edgeagent.__main__",),
    ("edgeagent.cli",),
    ("edgeagent.daemon",),
    (
        "edgeagent.probes",
        "edgeagent.outlets",
        "edgeagent.store",
        "edgeagent.host",
        "edgeagent.routeros.session",
        "edgeagent.routeros.ssh",
    ),
    ("edgeagent.routeros", "edgeagent.config", "edgeagent.texts"),
    ("edgeagent.core",),
)

# Third-party packages: the one module that may import each. msgspec is everywhere; no other is.
OWNERS = {
    "librouteros": ("edgeagent.routeros.session", "its reply handling is full of traps; one module knows them all"),
    "paramiko": ("edgeagent.routeros.ssh", "only the bootstrap may load it; the daemon never does"),
    "aiosmtplib": ("edgeagent.outlets.mail", "mail fails in a dozen ways; one module translates them"),
    "tomli": ("edgeagent.config.document", "configuration is parsed once, in one place"),
    "tomlkit": ("edgeagent.config.migrations", "files are read by tomli; only a rewrite must keep comments and layout"),
    "psutil": ("edgeagent.host.machine", "what of a machine may leave the site is chosen in one place"),
    "rich": ("edgeagent.cli.screen", "it costs 6 MiB: only a live view on a terminal may load it"),
    "cryptography": ("edgeagent.host.keys", "it is large; the daemon must be able to do without it"),
}

# Standard modules banned from everywhere but the module named.
CLOCKS = {
    "time": "time is an argument; host/clock.py is the only reader of clocks (clause C4)",
    "random": "randomness comes from host/clock.py, or from a seed",
    "secrets": "randomness comes from host/clock.py, or from a seed",
    "uuid": "randomness comes from host/clock.py, or from a seed",
}
CLOCK_MODULE = "edgeagent.host.clock"
CLOCK_CALLS = ("now", "utcnow", "today", "time", "monotonic", "perf_counter")

IMPURE = (
    "asyncio",
    "socket",
    "ssl",
    "os",
    "pathlib",
    "sqlite3",
    "subprocess",
    "threading",
    "logging",
    "signal",
    "select",
)


def modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test can read them"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> tuple[int, str] | None:
    """The floor and the package on it that a module belongs to; the longest name wins."""
    found = [
        (len(package), level, package)
        for level, packages in enumerate(FLOORS)
        for package in packages
        if name == package or name.startswith(package + ".")
    ]
    return (max(found)[1], max(found)[2]) if found else None


def upward(name: str, wanted: str) -> str | None:
    """Why ``name`` may not import ``wanted``; None where it may."""
    here, there = floor(name), floor(wanted)
    if here is None or there is None or here[1] == there[1]:
        return None
    if there[0] < here[0]:
        return f"{name} imports {wanted}: imports go down only"
    if there[0] == here[0]:
        return f"{name} imports {wanted}: siblings never import siblings; daemon/wiring.py joins them"
    return None


def test_imports_go_down_only() -> None:
    problems = [said for name, tree in modules(AGENT) for wanted in imports(tree) if (said := upward(name, wanted))]
    assert not problems, "\n".join(problems)


def test_the_rule_bites() -> None:
    assert upward("edgeagent.core.turn", "edgeagent.daemon.loop")
    assert upward("edgeagent.store.store", "edgeagent.outlets.mail")
    assert upward("edgeagent.routeros.diff", "edgeagent.routeros.session.Session")
    assert upward("edgeagent.daemon.loop", "edgeagent.core.turn") is None


def test_the_core_is_pure() -> None:
    allowed = {"msgspec", "edgeagent", "__future__"}
    for name, tree in modules(AGENT / "core"):
        for wanted in imports(tree):
            top = wanted.partition(".")[0]
            assert top not in IMPURE, f"{name} imports {wanted}: the core does no I/O"
            assert top in allowed or top in sys.stdlib_module_names, (
                f"{name} imports {wanted}: the core needs msgspec only"
            )


def test_each_third_party_package_has_one_importer() -> None:
    for name, tree in modules(AGENT):
        for wanted in imports(tree):
            top = wanted.partition(".")[0]
            if top in sys.stdlib_module_names or top in ("edgeagent", "msgspec", "__future__"):
                continue
            assert top in OWNERS, f"{name} imports {wanted}: a new package needs an owner here and a reason"
            owner, reason = OWNERS[top]
            assert name == owner, f"{name} imports {wanted}, which only {owner} may: {reason}"


def test_no_clock_and_no_randomness_outside_host_clock() -> None:
    for name, tree in modules(AGENT):
        if name == CLOCK_MODULE:
            continue
        for wanted in imports(tree):
            top = wanted.partition(".")[0]
            assert top not in CLOCKS, f"{name} imports {wanted}: {CLOCKS.get(top)}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                clock = node.value.id in ("datetime", "date", "time") and node.attr in CLOCK_CALLS
                assert not clock, f"{name}, line {node.lineno}: {node.value.id}.{node.attr} reads a clock"


def test_only_the_command_line_prints() -> None:
    for name, tree in modules(AGENT):
        if name.startswith("edgeagent.cli"):
            continue
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        printing = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not printing, f"{name}, line {printing}: only cli prints"


@pytest.mark.parametrize("banned", ["edgeagent", "librouteros"])
def test_the_bench_shares_nothing_with_the_product(banned: str) -> None:
    for name, tree in modules(ROOT / "hil"):
        for wanted in imports(tree):
            top = wanted.partition(".")[0]
            assert top != banned, f"{name} imports {wanted}: a shared mistake could hide; start it as a process instead"


def test_scenarios_speak_to_the_bench_only() -> None:
    allowed = ("hil.bench", "hil.events", "hil.report", "hil.scenario", "hil.scenarios", "hil.virtual.addresses")
    for name, tree in modules(ROOT / "hil" / "scenarios"):
        for wanted in imports(tree):
            if wanted.startswith("hil"):
                fine = wanted.startswith(allowed) or wanted == "hil.virtual.addresses" or wanted == "hil.events"
                assert fine, f"{name} imports {wanted}: a real rig could not run it"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_lock_files_name_packages_and_no_place(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    odd = [line for line in lines if not re.match(r"[a-z0-9]|    (--hash=sha256:[0-9a-f]{64}|# )", line)]
    assert odd == []


def test_nothing_cites_a_path_of_this_workplace() -> None:
    import subprocess

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".toml", ".sh", "")
            and path.is_file()
            and name != "tests/test_architecture.py"
        ):
            text = path.read_text(errors="replace")
            for cited in ("/work/", "facts/", "prototypes/", "design.md", "contract.md"):
                assert cited not in text, f"{name} cites {cited}: the product stands alone"
