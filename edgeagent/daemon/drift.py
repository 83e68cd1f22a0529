"""The watch for hand edits: reads the router's standing rows menu by menu, and puts right what the core says.

It shares the reading connection, one sentence at a time, so that no reading of flows waits for more than that. A round
over all menus is spread evenly. Where a menu differs from what it was, all are read at once, compared as provisioning
does it, and the core is told; what it wants put right is written change by change, in the order that leaves voice a
usable route at each moment (clause P2), and then all is read once more: only that says that it took.

What counts is what a person has had applied, as far as it is wanted still (approval.py): that site.toml or the program
have become others since is nobody's edit, and is not written by us. Until the store has told what was applied, it is
only looked.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from edgeagent.config.site import Site
from edgeagent.core.facts import DriftSeen, Fact, Finding, PartFailed, PartWorks
from edgeagent.daemon import survey
from edgeagent.daemon.memory import Memory
from edgeagent.daemon.survey import Board, Question, Seen, Survey
from edgeagent.routeros import approval, drift, sentences
from edgeagent.routeros.approval import Agreed, Approval
from edgeagent.routeros.drift import Difference, Step
from edgeagent.routeros.errors import RouterProtocolError, RouterTrap
from edgeagent.routeros.rows import Dialect, Row, device_comment
from edgeagent.routeros.ruleset import learns
from edgeagent.routeros.session import Session
from edgeagent.routeros.values import is_ipv4

log = logging.getLogger(__name__)
ROUND_S = 48.0  # with what follows, an edit is found and mended well within a minute
TROUBLE_S = 60.0  # a router that does not show its rows is asked again so often
AGAIN_S = 5.0  # how soon to look again while another program writes
FRESH_S = 10.0  # what was found longer ago, because a switch came in between, is looked at anew before it is written
PART = "rows"


class RowsWatch:
    """One router's rows. ``wake`` is called when something has become due sooner than ``due_s`` said."""

    def __init__(self, site: Site, memory: Memory, tell: Callable[[Fact], None], now: Callable[[], float]) -> None:
        self.site = site
        self.memory = memory
        self.tell = tell
        self.now = now
        self.wake: Callable[[], None] = lambda: None
        self.allowed = True
        self.session: Session | None = None
        self.dialect: Dialect | None = None
        self.board: Board | None = None
        self.today: Approval | None = None  # what would be approved by applying now
        self.wanted: list[Row] = []  # as of the last comparison
        self.questions: deque[Question] = deque()
        self.whole = True  # whether all menus are being read at once
        self.next_s = self.put_off_s = float("-inf")
        self.pace_s = 0.0
        self.replies: Seen = {}
        self.known: dict[str, tuple[Finding, ...]] = {}  # by menu, what the last comparison found there
        self.mark: bytes | None = None
        self.compared_s = float("-inf")
        self.told: DriftSeen | None = None
        self.found = Difference((), (), {})
        self.todo: deque[Step] = deque()
        self.urgent = True  # not even a switch is waited for: without our rows it would move nobody
        self.begun = False
        self.tried: dict[str, None] = {}  # things written since the last comparison
        self.refused: str | None = None

    def order(self, *, allowed: bool) -> None:
        """Whether to read and write now, or wait: a switch is under way."""
        if allowed != self.allowed:
            self.allowed = allowed
            self.wake()

    def mend(self, things: Sequence[str]) -> None:
        """Put these right, as they were found last."""
        chosen = frozenset(things)
        self.todo = deque(step for step in self.found.steps if step.thing in chosen)
        self.urgent = self.urgent or any(step.thing == drift.EVERYTHING for step in self.todo)
        self.wake()

    def due_s(self) -> float:
        """When the next sentence is due."""
        if not (self.allowed or self.urgent) or (self.session is not None and self.dialect is None):
            return float("inf")
        return self.put_off_s if self.todo else max(self.next_s, self.put_off_s)

    async def step(self, session: Session) -> None:
        """Say one sentence (on a new connection a few).

        A router that will not show one of its menus, or shows too much of one, must not cost the others their reader:
        it is asked again later.
        """
        try:
            await self._step(session)
        except RouterTrap as trap:
            log.warning("the rows cannot be watched: %s", trap)
            self.put_off_s = self.now() + TROUBLE_S
            await self.leave()
        except RouterProtocolError:
            self.put_off_s = self.now() + TROUBLE_S
            raise

    async def _step(self, session: Session) -> None:
        if session is not self.session:
            await self._begin(session)
        elif self.todo:
            await self._mend(session)
        elif self.questions:
            await self._read(session)

    async def leave(self) -> None:
        """The connection is gone; what was not written is looked at anew."""
        self.session = None
        self.told = None  # on the next connection all is told anew: the router may hold something else by then
        self.urgent = True
        self.todo.clear()
        self.next_s = float("-inf")
        await self._end_writing()

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _begin(self, session: Session) -> None:
        self.session = session
        self.dialect = survey.dialect_of(await survey.version_of(session))
        if self.dialect is not None:
            known = await survey.board(session, self.site, self.dialect)
            self.board = known if self.board is None else survey.unforgetting(known, self.board)
            self.today = survey.approval_of(self.site, self.dialect, self.board)
            self._round(whole=True)

    def _round(self, *, whole: bool, in_s: float = 0.0) -> None:
        assert self.dialect is not None  # noqa: S101
        assert self.board is not None  # noqa: S101
        self.whole = whole
        self.questions = deque(survey.questions(self.site, self.dialect, self.board, narrow=True))
        self.next_s = self.now() + (in_s if whole else ROUND_S / len(self.questions))
        self.pace_s = 0.0 if whole else ROUND_S / len(self.questions)

    async def _read(self, session: Session) -> None:
        question = self.questions.popleft()
        self.next_s = self.now() + self.pace_s
        self.replies[question.menu] = await survey.ask(session, question)
        if self.questions:
            if not self.whole and self._of_menu(question.menu) != self.known.get(question.menu):
                self._round(whole=True)
            return
        await self.memory.refresh()
        if self.whole:
            self._compare()
            self._round(whole=False)
        else:
            differs = self._of_menu(question.menu) != self.known.get(question.menu)
            self._round(whole=differs or self.memory.mark != self.mark)

    def _surveyed(self) -> Survey:
        assert self.dialect is not None  # noqa: S101
        assert self.board is not None  # noqa: S101
        self.board = survey.as_read(self.board, self.site, self.dialect, self.replies)
        return survey.of(self.site, self.dialect, self.board, self.replies)

    def _agreed(self, found: Survey) -> Agreed:
        assert self.today is not None  # noqa: S101
        return survey.agreed(self.memory.approved, self.today, self.site, found)

    def _of_menu(self, menu: str) -> tuple[Finding, ...]:
        """What differs in one menu."""
        found = self._surveyed()
        return self._found_in(found.seen, self._agreed(found), menu)

    @staticmethod
    def _found_in(all_seen: Seen, agreed: Agreed, menu: str) -> tuple[Finding, ...]:
        rows = [row for row in agreed.rows if row.menu == menu]
        seen = {menu: all_seen[menu]} if menu in all_seen else {}
        if learns(agreed.rows) and menu == sentences.LISTS:  # devices that were learnt are nobody's edit
            kept = [row for row in seen.get(menu, ()) if not row.get("comment", "").startswith(device_comment(""))]
            seen = {menu: kept}
        settings = {setting: found for setting, found in agreed.settings.items() if setting.menu == menu}
        return drift.difference(rows, seen, settings, agreed.apart).findings

    def _compare(self) -> None:
        """All of it. The core is told where it is not as it was told last, or something was written since."""
        found = self._surveyed()
        agreed = self._agreed(found)
        self.known = {menu: self._found_in(found.seen, agreed, menu) for menu in self.replies}
        if self.memory.mark != self.mark:
            self.mark, self.told = self.memory.mark, None  # what was found counts otherwise now
        # Without any mark, as with a store that is new, rows of ours tell all the same.
        ours = self.memory.provisioned
        ours = drift.holds_rows(found.seen) if ours is None else ours
        self.found, findings = self._judged(found.seen, agreed) if ours else (Difference((), (), {}), ())
        self.wanted, self.compared_s = agreed.rows, self.now()
        if self.refused is not None and self.refused not in {one.thing for one in findings}:
            self.refused = None
            self.tell(PartWorks(PART, self.now()))
        unapplied = agreed.unapplied if ours else ()
        told = DriftSeen(findings, ours, self.now(), tuple(self.tried), unapplied)
        if self.tried or self.told is None or replace(told, at_s=self.told.at_s, tried=self.told.tried) != self.told:
            self.tell(told)
        self.told = told
        self.tried = {}
        self.urgent = False

    def _judged(self, seen: Seen, agreed: Agreed) -> tuple[Difference, tuple[Finding, ...]]:
        """What differs, and what is told of it: marked where nobody's hand has made it."""
        found = drift.difference(agreed.rows, seen, agreed.settings, agreed.apart)
        findings = found.findings
        if self.wanted and self.wanted != agreed.rows:
            former = drift.difference(self.wanted, seen, agreed.settings, agreed.apart).findings
            findings = drift.outdated(findings, {one.thing for one in former})
        provider = self.site.provider
        if provider.registrar_name:
            hosts = (one.thing.removeprefix(approval.host("")) for one in findings)
            former_hosts = {approval.host(host) for host in hosts if is_ipv4(host) and provider.holds(host)}
            findings = drift.moved(findings, approval.host(provider.registrar), former_hosts)
        return (found if self.memory.told else replace(found, steps=())), findings

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _mend(self, session: Session) -> None:
        if not self.begun and not await self._begin_writing():
            return
        step = self.todo.popleft()
        self.tried[step.thing] = None
        try:
            await session.send(sentences.of_change(step.change))
        except RouterTrap as trap:
            # What comes behind may stand on what was refused.
            log.warning("%s could not be put right: %s", step.thing, trap)
            self.refused = step.thing
            self.tell(PartFailed(PART, trap.fault, self.now()))
            self.todo.clear()
        if not self.todo:
            await self._end_writing()
            self._round(whole=True)

    async def _begin_writing(self) -> bool:
        """Whether something may be written: nobody else does, and the former values of settings are kept."""
        if not await self.memory.take():
            self._look_again(in_s=AGAIN_S)
            return False
        self.begun = True
        await self.memory.refresh()
        if self.memory.mark != self.mark or self.now() - self.compared_s > FRESH_S:
            self._look_again()
            await self._end_writing()
            return False
        things = {step.thing for step in self.todo}
        former = {key: value for key, value in self.found.former.items() if key in things or drift.EVERYTHING in things}
        if former and not await self.memory.save_former(former):
            # Neither may rows stand without the settings that they need (all of it), nor settings be lost.
            self.todo = deque(step for step in self.todo if step.thing not in {*former, drift.EVERYTHING})
            self.tried |= dict.fromkeys(things & {*former, drift.EVERYTHING})
        if self.todo:
            return True
        await self._end_writing()
        self._round(whole=True)
        return False

    def _look_again(self, in_s: float = 0.0) -> None:
        """Before anything is written; what is then found is told, whatever it is."""
        self.todo.clear()
        self.told = None
        self._round(whole=True, in_s=in_s)

    async def _end_writing(self) -> None:
        if self.begun:
            self.begun = False
            await self.memory.release()
