"""``make wheels``: everything for every supported machine, verified, and our own wheel complete."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from edgeagent.cli import main
from tests.service import wheels

ROOT = wheels.ROOT
PYTHONS = [(3, 11), (3, 12), (3, 13)]
GLIBC_MINOR = 36  # Debian 12


def accepted(python: tuple[int, int], architecture: str) -> set[Tag]:
    """What pip takes on such a machine (PEP 425, PEP 600)."""
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(GLIBC_MINOR, 16, -1)]
    platforms += [f"manylinux2014_{architecture}"]
    return {
        *cpython_tags(python, platforms=platforms),
        *compatible_tags(python, f"cp{python[0]}{python[1]}", platforms),
    }


def locked() -> dict[str, str]:
    """Name -> version, as the lock has them."""
    found = re.findall(r"(?m)^([A-Za-z0-9_.-]+)==(\S+)", (ROOT / "requirements.txt").read_text())
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: f"{python[0]}.{python[1]}")
def test_every_supported_machine_finds_all_of_the_lock(dist: Path, python: tuple[int, int], architecture: str) -> None:
    tags = accepted(python, architecture)
    found = {}
    for path in dist.glob("*.whl"):
        name, version, _, own = parse_wheel_filename(path.name)
        if own & tags:
            found[str(name)] = str(version)
    assert found.pop("edgeagent")
    assert found == locked()


def test_a_machine_without_wheels_is_an_error(tmp_path: Path) -> None:
    done = wheels.make(tmp_path, "3.11-sparc64")
    assert done.returncode != 0
    assert "No matching distribution" in done.stderr


def test_the_same_sources_give_the_same_wheel_and_all_is_listed(dist: Path, tmp_path: Path) -> None:
    wheels.make(tmp_path, "3.11-sparc64")
    (again,) = tmp_path.glob("edgeagent-*.whl")
    assert again.read_bytes() == (dist / again.name).read_bytes()
    lines = (line.partition("  ") for line in (dist / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, _, name in lines}
    assert sums.keys() == {path.name for path in dist.iterdir()} - {"SHA256SUMS"}
    assert sums[again.name] == hashlib.sha256(again.read_bytes()).hexdigest()


def test_our_wheel_holds_every_module_and_what_install_sh_needs(dist: Path) -> None:
    (wheel,) = dist.glob("edgeagent-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    own = [path for path in (ROOT / "edgeagent").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {name for name in held if name.startswith("edgeagent/")} == {str(path.relative_to(ROOT)) for path in own}
    shared = {name.partition("/share/edgeagent/")[2] for name in held} - {""}
    assert shared == {path.name for path in (ROOT / "systemd").iterdir()} | {"site.toml"}
    pages = ("man/man1/edgeagent.1", "bash-completion/completions/edgeagent.bash", "zsh/site-functions/_edgeagent")
    assert {page for page in pages if any(name.endswith(f"/share/{page}") for name in held)} == set(pages)


def test_it_runs_outside_the_checkout(dist: Path, tmp_path: Path) -> None:
    here = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(here)], check=True)
    (wheel,) = dist.glob("edgeagent-*.whl")
    install = [str(here / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*install, "--find-links", str(dist), str(wheel)], check=True, cwd=tmp_path)
    for command in ((), *((command.__name__.rpartition(".")[2].replace("_", "-"),) for command in main.COMMANDS)):
        own = [str(here / "bin" / "edgeagent"), *command, "--help"]
        done = subprocess.run(own, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout[:6]) == (0, "usage:"), done.stderr
    every = (
        "import importlib, pkgutil, edgeagent\nfor one in pkgutil.walk_packages(edgeagent.__path__, 'edgeagent.'):\n"
    )
    every += "    one.name == 'edgeagent.__main__' or importlib.import_module(one.name)"
    subprocess.run([str(here / "bin" / "python"), "-c", every], cwd=tmp_path, check=True)
