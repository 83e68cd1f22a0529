"""docs/settings.md, made from what the reader knows and from the remarks in docs/site.toml.

``python -m tests.settings_page`` writes it; tests/test_docs.py keeps it equal.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import tomli

from edgeagent.config import document
from edgeagent.config.effective import unit_of
from edgeagent.config.reader import Notes
from edgeagent.config.site import parse

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLE, PAGE = DOCS / "site.toml", DOCS / "settings.md"
LEFT_OUT = re.compile(r"^# ([a-z0-9_]+ = )", re.MULTILINE)  # a key with a default that the example leaves out
HEAD = """# Settings

Every key of `site.toml`. `python -m tests.settings_page` makes this page from the program and from the remarks in
[site.toml](site.toml), the example. A key without a default must be there. What stands under `[path.lte]` may stand
under `[path.NAME]` for every backup; they are tried in the order of the file. `edgeagent check-config` checks a file,
`edgeagent config --origin` says what is in force and where it came from.

| key | meaning | unit | expected | default |
|---|---|---|---|---|
"""


def noted() -> tuple[Notes, dict[str, str]]:
    """What the reader knows, and the example's remark on each key."""
    text = LEFT_OUT.sub(r"\1", EXAMPLE.read_text())
    notes = Notes()
    parse(tomli.loads(text), "site.toml", notes=notes)
    lines = text.split("\n")
    remarks = {key: lines[line - 1].rpartition(" # ")[2] for key, line in document.line_numbers(text).items()}
    return notes, remarks


def page() -> str:
    """The whole page."""
    notes, remarks = noted()
    rows = []
    for key, expected in notes.expected.items():
        default = f"`{json.dumps(notes.defaults[key])}`" if key in notes.defaults else ""
        meaning = remarks[key].removesuffix(" (default)")
        rows.append(f"| `{key}` | {meaning} | {unit_of(key)} | {expected} | {default} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
