"""The live view on a terminal. The only importer of rich."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgeagent import texts
from edgeagent.cli import watch
from edgeagent.cli.status import lasting

EVENTS_SHOWN = 12
COLOURS = {"up": "green", "down": "bold red", "unsure": "yellow"}


class Screen(AbstractContextManager["Screen"]):
    """Draws each reading over the last; the last one stays."""

    def __init__(self) -> None:
        self.live = Live(auto_refresh=False)
        self.last: RenderableType = Text("")

    def __enter__(self) -> Screen:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def present(self, document: dict[str, Any]) -> None:
        """What the agent said."""
        parts: list[RenderableType] = [_head(document), _paths(document)]
        parts += [Text(line) for line in [watch.counts(document), *watch.standing(document)]]
        parts += [Text(f"! {texts.fault(code)[0]}", style="bold red") for code in document["faults"]]
        parts += [Text(""), _events(document), Text(texts.screen("watch end"), style="dim")]
        self.last = Panel(Group(*parts))
        self.live.update(self.last, refresh=True)

    def absent(self, why: str) -> None:
        """The last reading, greyed by the news that there is none."""
        self.live.update(Group(self.last, Text(why, style="bold red")), refresh=True)


def _head(document: dict[str, Any]) -> Text:
    said = {"site": document["site"], "phase": document["phase"], "lasting": lasting(document)}
    style = "bold green" if document["phase"] == "home" else "bold yellow"
    return Text(texts.screen("watch voice", path=texts.path_name(document["path"]), **said), style=style)


def _paths(document: dict[str, Any]) -> Table:
    table = Table(*texts.screen("watch columns").split("|"), box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name, path in document["paths"].items():
        verdict, since_s, ago_s = path["verdict"], path["for_s"], path["answered_ago_s"]
        table.add_row(
            texts.path_name(name),
            Text(verdict, style=COLOURS.get(verdict, "")),
            "" if since_s is None else texts.screen("watch for", seconds=since_s),
            "" if ago_s is None else texts.screen("watch ago", seconds=ago_s),
            str(path["lost_in_a_row"]),
            path["address"] or "",
        )
    return table


def _events(document: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for event in document["events"][-EVENTS_SHOWN:]:
        style = "bold" if event["kind"] == "place" else ""
        ago = texts.screen("watch ago", seconds=event["ago_s"])
        table.add_row(Text(ago, style="dim"), Text(watch.event_text(event), style=style))
    return table
