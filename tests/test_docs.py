"""What the documents promise is so."""

from __future__ import annotations

import re
from pathlib import Path

from edgeagent.config.site import load

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_site_is_good() -> None:
    site = load(ROOT / "docs" / "site.toml")
    assert [path.name for path in site.paths] == ["primary", "lte"]


def test_links_in_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert target.startswith("http") or (ROOT / target).exists(), f"README links to {target}, which is not there"


def test_every_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"`make ([a-z]+)`", (ROOT / name).read_text())) - {"demo"}
        assert named <= targets, f"{name} names {named - targets}"
