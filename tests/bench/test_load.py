"""The story of the API's load on a bench in memory: what goes beyond a limit fails, what is not seen is no verdict."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hil import scenario
from hil.bench import Options
from hil.report import report
from tests.bench.fake import Product, opener


def judged(folder: Path, product: Product, breakage: str = "") -> dict[str, Any]:
    found = scenario.find("api-load")
    run = asyncio.run(scenario.once(found, Options(breakage=breakage), folder / "run", opener(product)))
    return report(found.name, "7.22", 1, found.measures, [run])


def test_a_modest_agent_passes(tmp_path: Path) -> None:
    said = judged(tmp_path, Product())
    assert said["outcome"] == "passed", said
    assert set(said["controls"].values()) == {"bit"}
    values = {name: entry["value"] for name, entry in said["figures"].items()}
    assert values["sentences_per_s"] == pytest.approx(0.5)
    assert values["bytes_per_s"] == pytest.approx(0.5 * (1000 + 52)), "a packet each way, and what acknowledges them"
    assert (values["connections"], values["reconnects"], values["foreign_rows"]) == (3, 0, 2000)


def test_acknowledgements_that_a_slow_machine_sends_by_themselves_change_nothing(tmp_path: Path) -> None:
    few, many = (judged(tmp_path, Product(bare_acks=count))["figures"] for count in (0, 5))
    assert few["bytes_per_s"] == many["bytes_per_s"]
    assert (few["acks_per_s"]["value"], many["acks_per_s"]["value"]) == (0.0, pytest.approx(2.5))
    assert many["packet_bytes_per_s"]["value"] == pytest.approx(few["packet_bytes_per_s"]["value"] + 2.5 * 52)


@pytest.mark.parametrize(
    ("product", "missed"),
    [
        (Product(asks_per_s=2.1, reply_bytes=100), "sentences_per_s"),
        (Product(reply_bytes=4100), "bytes_per_s"),
        (Product(api_connections=4), "connections"),
        (Product(api_connections=2, reconnects=1), "reconnects"),
    ],
)
def test_each_limit_alone_fails_when_it_is_passed(tmp_path: Path, product: Product, missed: str) -> None:
    said = judged(tmp_path, product)
    assert said["outcome"] == "failed"
    assert [name for name, entry in said["figures"].items() if not entry["ok"]] == [missed]


def test_an_agent_that_is_not_there_does_not_pass_for_a_modest_one(tmp_path: Path) -> None:
    assert judged(tmp_path, Product(), "agent-not-started")["outcome"] == "failed"


def test_counts_that_do_not_see_the_naive_program_are_an_error(tmp_path: Path) -> None:
    said = judged(tmp_path, Product(blind=True))
    assert said["outcome"] == "error"
    assert all(text.startswith("did not bite") for text in said["controls"].values())
