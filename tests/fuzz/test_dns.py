"""The fuzzer of DNS answers: its share of every run, and decoders broken on purpose."""

from __future__ import annotations

import inspect

import pytest

from edgeagent.probes import dns
from tests.fuzz import dns as fuzz


def test_twenty_thousand_mutated_answers_are_messages_or_refused_clause_x3() -> None:
    messages, failures = fuzz.run(20_000, 20260731)
    assert not failures, failures[:20]
    assert 2_000 < messages < 18_000, "the mutations are too wild or too tame to prove anything"


@pytest.mark.parametrize(
    ("guard", "broken"),
    [
        ("if at >= first:", "if False:"),  # pointers that loop
        ("if len(label) < length or size > 255:", "if False:"),
        ("if end > len(packet):", "if False:"),
        ("if length != 4:", "if False:"),
        ("except struct.error:", "except KeyError:"),
    ],
)
def test_without_one_of_its_guards_the_decoder_is_found_out(
    guard: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(fuzz, "CPU_LIMIT_S", 0.05)
    source = inspect.getsource(dns)
    assert source.count(guard) == 1
    twin: dict[str, object] = {"__name__": dns.__name__}
    exec(compile(source.replace(guard, broken), dns.__file__, "exec"), twin)  # noqa: S102  (the module itself, one line changed)
    monkeypatch.setattr(fuzz, "decoded", twin["decoded"])
    monkeypatch.setattr(fuzz, "BadMessage", twin["BadMessage"])
    assert fuzz.run(1_500, 20260731)[1]
