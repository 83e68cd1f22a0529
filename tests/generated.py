"""What is generated from the commands: the manual page and the completions. ``python -m tests.generated`` writes them.

The parser of ``edgeagent.cli.main`` is the one source. The same bytes come out every time: no date, no version, and no
line is broken to fit a terminal.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from edgeagent import texts
from edgeagent.cli.main import parser

ROOT = Path(__file__).resolve().parents[1]


def generated() -> dict[Path, str]:
    """Every generated file with its contents."""
    completion = ROOT / "provisioning" / "completion"
    with _wide():
        return {
            ROOT / "docs" / "man" / "edgeagent.1": _manual(),
            completion / "edgeagent.bash": shtab.complete(_completing(), "bash"),
            completion / "_edgeagent": shtab.complete(_completing(), "zsh"),
        }


def main() -> None:
    """Write them."""
    for path, content in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def _manual() -> str:
    found = parser()
    found._positionals.title = "commands"
    for action in found._positionals._group_actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.description = None  # the page gives the help already, which says the same
    page = Manpage(found, format="single-commands-section")
    page.date, page.source, page.manual = "", "edgeagent", "edgeagent"
    said = texts.help_of("").rstrip(".")
    page.description = said[:1].lower() + said[1:]
    for heading, entries in texts.manual().items():
        page.add_section(heading, "=", "\n".join(_entries(entries)))
    return str(page)


def _entries(entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """Tagged paragraphs, man(7); one without a tag is a plain paragraph."""
    for tag, said in entries:
        yield from (".TP", rf"\fB{_roff(tag)}\fR", _roff(said)) if tag else (".PP", _roff(said))


def _roff(text: str) -> str:
    escaped = text.replace("\\", r"\(rs").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _completing() -> argparse.ArgumentParser:
    """The parser, told where a file is meant."""
    found = parser()
    waiting = [found]
    while waiting:
        for action in waiting.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()
            elif action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return found


@contextmanager
def _wide() -> Iterator[None]:
    """argparse breaks lines to fit the terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


if __name__ == "__main__":
    main()
