"""Faults on request: what a router under stress, half dead or wrongly configured does to its clients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal[
    "slow",  # delay_s before every reply sentence
    "hang",  # take the command, do nothing, never answer
    "mute",  # do the command, never answer
    "hang_mid_word",  # do the command, stop in the middle of a word of the answer; nothing follows on that session
    "drop",  # close the connection instead of doing the command
    "drop_after",  # do the command, close the connection instead of answering
    "trap",  # refuse with a message
    "trap_after_rows",  # some rows, then a trap
    "wrong_password",  # refuse the login
    "lost_policy",  # the user lacks a policy
    "swallow",  # acknowledge and do nothing
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass
class Rule:
    """One fault and the commands it strikes."""

    number: int
    kind: Kind
    command: str = ""
    """Prefix of the command path; empty strikes every command."""
    arguments: str = ""
    """Regular expression searched in each of the other words, such as ``list=edge-lte``."""
    user: str = ""
    count: int | None = None
    """How many more times it strikes; None is until cleared."""
    delay_s: float = 1.0
    rows: int = 1
    policy: str = "write"
    message: str = "no such item (4)"

    def strikes(self, words: Sequence[str], user: str) -> bool:
        """Whether this command is one of those."""
        return (
            words[0].startswith(self.command)
            # A login is struck only by a rule that names it, or by those made for it.
            and (words[0] != "/login" or self.command == "/login" or self.kind == "wrong_password")
            and (self.kind != "wrong_password" or words[0] == "/login")
            and self.user in ("", user)
            and (not self.arguments or any(re.search(self.arguments, word) for word in words[1:]))
        )


class Misbehaviour:
    """The faults in force."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._numbers = 0

    def add(self, options: Mapping[str, object]) -> Rule:
        """Begin a fault; the options are the fields of :class:`Rule`."""
        kind = options.get("kind")
        if kind not in KINDS:
            raise ValueError(f"unknown misbehaviour {kind!r}; known are {', '.join(KINDS)}")
        known = set(Rule.__dataclass_fields__) - {"number"}
        unknown = sorted(set(options) - known)
        if unknown:
            raise ValueError(f"unknown options of a misbehaviour: {', '.join(unknown)}; known are {sorted(known)}")
        re.compile(str(options.get("arguments", "")))
        self._numbers += 1
        rule = Rule(self._numbers, **options)  # type: ignore[arg-type]
        self._rules.append(rule)
        return rule

    def clear(self, number: int | None = None) -> None:
        """End one fault, or all of them. Commands that hang already stay unanswered."""
        self._rules = [rule for rule in self._rules if number is not None and rule.number != number]

    def strike(self, words: Sequence[str], user: str) -> dict[str, Rule]:
        """The faults that strike this command, by kind, the oldest of a kind; counts them."""
        struck: dict[str, Rule] = {}
        for rule in list(self._rules):
            if rule.kind in struck or not rule.strikes(words, user):
                continue
            struck[rule.kind] = rule
            if rule.count is not None:
                rule.count -= 1
                if rule.count <= 0:
                    self._rules.remove(rule)
        return struck
