"""Scripts on this router: who runs them, and with whose policies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from hil.virtual.routeros.access import UNPERMITTED, Access, Caller, held
from hil.virtual.routeros.grammar import Grammar
from hil.virtual.routeros.kernel_script import Interpreter, Sentence, Terminal
from hil.virtual.routeros.kernel_syntax import ScriptError
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.engine import Answer
    from hil.virtual.routeros.store import Store

SCRIPT = "/system/script"


class Scripts:
    """Runs scripts for those who start them: a user, a job, a watch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._grammar = Grammar(store.version)

    def interpreter(self, sentence: Sentence, terminal: Terminal | None = None) -> Interpreter:
        """An interpreter for this router's log and global variables."""
        return Interpreter(sentence, self.note, self._store.script_globals, terminal, self._grammar.check)

    async def run_named(self, values: Row, caller: Caller) -> AsyncIterator[Answer]:
        """``/system/script/run`` as a user; raises Trap where the script asks for more than the user may do."""
        reference = values.get(".id") or values.get("number", "")
        script = self._store.find(SCRIPT, reference).values
        self._refuse_more(script, caller.policies)
        try:
            await self._as(caller).run(script["source"])
        except ScriptError as error:
            raise Trap(str(error), 3) from None
        yield "done", {}

    async def run_job(self, what: str, who: str, caller: Caller, values: Mapping[str, str] | None = None) -> None:
        """Run a script by its name or its text with exactly these policies; a failure ends with a line in the log.

        A script that asks for more policies than its job has does not run, unless it is marked
        ``dont-require-permissions`` (MikroTik manual, "Scripting", "Netwatch"). ``values``: variables it is given.
        """
        named = [entry.values for entry in self._store.entries(SCRIPT) if entry.values["name"] == what.strip()]
        script = named[0] if named else {}
        try:
            self._refuse_more(script, caller.policies)
            await self._as(caller).run(script.get("source", what), values)
        except (ScriptError, Trap) as error:
            self.note("error", f"script error ({who}): {error}")

    def owner(self, row: Row) -> Caller:
        """Who a job runs as: its owner, with the job's own policies; one the bench wrote without any has all."""
        everything = Access(self._store).local()
        policies = held(row["policy"]) if "policy" in row else everything.policies
        return Caller(row.get("owner", everything.user), policies)

    def note(self, severity: str, message: str) -> None:
        """What a script says goes to the log."""
        self._store.append_log(f"script,{severity}", message)

    def _as(self, caller: Caller) -> Interpreter:
        async def sentence(words: list[str]) -> list[Row]:
            return await self._store.sentence(words, caller)

        return self.interpreter(sentence)

    @staticmethod
    def _refuse_more(script: Row, policies: frozenset[str]) -> None:
        if script.get("dont-require-permissions") != "true" and not held(script.get("policy", "")) <= policies:
            raise Trap(UNPERMITTED)
