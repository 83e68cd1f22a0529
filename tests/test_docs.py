"""What the documents promise is so."""

from __future__ import annotations

import re
from pathlib import Path

from edgeagent.config.site import load
from tests import settings_page

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
        named = set(re.findall(r"`make ([a-z]+)`", (ROOT / name).read_text()))
        assert named <= targets, f"{name} names {named - targets}"


def test_the_page_of_settings_is_what_the_program_and_the_example_say() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run python -m tests.settings_page"


def test_the_example_has_every_key_with_a_remark_and_says_what_may_be_left_out() -> None:
    notes, remarks = settings_page.noted()
    assert notes.written.keys() == notes.expected.keys() == remarks.keys()
    for key, remark in remarks.items():
        assert 3 < len(remark) < 120, f"docs/site.toml has no remark on {key}"
        assert remark.endswith("(default)") == (key in notes.defaults), f"docs/site.toml marks {key} wrongly"
        if key in notes.defaults and key != "mail.ca_file":
            assert notes.written[key] == notes.defaults[key], f"docs/site.toml has another default of {key}"
