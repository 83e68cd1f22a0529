"""``edgeagent status --watch``: asks the running agent once a second and shows what changes.

On a terminal a picture that is drawn anew (:mod:`edgeagent.cli.screen`), else one line for each change.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any, Protocol

from edgeagent import texts
from edgeagent.cli.status import ask, lines
from edgeagent.host import clock

REFRESH_S = 1.0
Document = dict[str, Any]


class View(Protocol):
    """Shows one reading after the other."""

    def present(self, document: Document) -> None:
        """What the agent said."""

    def absent(self, why: str) -> None:
        """It said nothing."""


def run(control_socket: str) -> int:
    """Watch until Ctrl-C, which is a good end; an agent that is gone is waited for."""
    pause = threading.Event()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), _view() as view:
        try:
            while True:
                _look(control_socket, view)
                pause.wait(REFRESH_S)
        except KeyboardInterrupt:
            _look(control_socket, view)  # what the last second brought belongs into the last picture
    return 0


def _look(control_socket: str, view: View) -> None:
    try:
        document = ask(control_socket)
    except (OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        view.absent(texts.screen("watch gone", file=control_socket, why=str(error)))
    else:
        view.present(document)


def _view() -> AbstractContextManager[View]:
    if sys.stdout.isatty():
        from edgeagent.cli.screen import Screen

        return Screen()
    return Lines()


class Lines(AbstractContextManager["Lines"]):
    """One line for each change, with the time since the watch began."""

    def __init__(self) -> None:
        self.began_s = clock.mono_s()
        self.number: int | None = None
        self.counts = ""
        self.gone = False

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def present(self, document: Document) -> None:
        """At first the whole status, then what is new in it."""
        now_s = clock.mono_s() - self.began_s
        newest = document["events"][-1]["number"] if document["events"] else 0
        if self.number is None or self.gone:
            for line in [*lines(document), *standing(document)]:
                self._say(now_s, line.strip())
        else:
            seen = self.number if newest >= self.number else 0  # another agent counts from 1 again
            for event in document["events"]:
                if event["number"] > seen:
                    self._say(now_s - event["ago_s"], event_text(event))
            if counts(document) != self.counts:
                self._say(now_s, counts(document))
        self.number, self.counts, self.gone = newest, counts(document), False

    def absent(self, why: str) -> None:
        """Said once."""
        if not self.gone:
            self._say(clock.mono_s() - self.began_s, why)
        self.gone = True

    @staticmethod
    def _say(at_s: float, text: str) -> None:
        print(texts.screen("watch line", at_s=max(0.0, at_s), text=text), flush=True)


def counts(document: Document) -> str:
    """Phones and calls."""
    return texts.screen("watch phones", phones=document["phones"], calls=document["calls"])


def standing(document: Document) -> list[str]:
    """The data plan and the mails, as far as this agent tells of them."""
    found = []
    if "plan" in document:
        plan = document["plan"]
        found.append(texts.screen("watch plan none") if plan is None else texts.screen("watch plan", plan=str(plan)))
    if (mail := document.get("mail")) is not None:
        code = "watch mail failed" if mail.get("failed") else "watch mail"
        found.append(texts.screen(code, queued=mail.get("queued"), failed=mail.get("failed")))
    return found


def event_text(event: Document) -> str:
    """One event in words."""
    kind, data = event["kind"], event["data"]
    match kind:
        case "place":
            code = {"away": "failover", "returning": "returning"}.get(data["phase"], "restored")
            return texts.screen(
                f"watch event {code}", path=texts.path_name(data["path"]), waiting=data.get("waiting", 0)
            )
        case "path":
            because = " because" if data["verdict"] == "down" else ""
            said = {"path": texts.path_name(data["path"]), "verdict": data["verdict"]}
            return texts.screen(f"watch event path{because}", cause=texts.cause(data.get("cause", "")), **said)
        case "fault raised":
            what, meaning, todo, who = texts.fault(data["code"])
            return texts.screen(
                "watch event fault raised", code=data["code"], what=what, meaning=meaning, todo=todo, who=who
            )
        case "fault cleared":
            return texts.screen("watch event fault cleared", code=data["code"])
        case "drift found" | "drift mended":
            code = "drift more" if "more" in data else kind
            return texts.screen(f"watch event {code}", **data)
        case "led by":
            return texts.screen("watch event led by" if data["owner"] else "watch event led", owner=data["owner"])
        case "notice":
            return texts.screen("watch event notice", audience=data["audience"], kind=data["kind"])
    return texts.screen("watch event other", kind=kind)
