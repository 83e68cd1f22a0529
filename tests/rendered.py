"""firmware-scripts/: what a router is given, as scripts to read and import. ``python -m tests.rendered`` writes them.

The site is the example of docs/site.toml, with both lines by DHCP, as they are with most customers, and the modem on
the port that each model has it on. tests/agent/test_rendered.py keeps the files equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli
from msgspec.structs import replace

from edgeagent import texts
from edgeagent.config.site import Site, parse
from edgeagent.daemon.survey import Board, wish
from edgeagent.routeros import render, render_removal, ruleset
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.rows import NO_GATEWAY, Dialect
from edgeagent.routeros.ruleset import build

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "firmware-scripts"
TITLES = {"rb2011": "MikroTik RB2011UiAS", "hap-ac2": "MikroTik hAP ac2"}
PORTS = {"rb2011": "ether10", "hap-ac2": "ether5"}
POE: dict[str, tuple[str, ...]] = {"rb2011": ("ether10",), "hap-ac2": ()}
DIALECTS: dict[str, Dialect] = {"6.49": DialectV6(), "7.22": DialectV7()}


def table(model: str) -> dict[str, Any]:
    """The example site on this model, as TOML gives it."""
    found = tomli.loads((ROOT / "docs" / "site.toml").read_text())
    for path, interface in (("primary", "ether1"), ("lte", PORTS[model])):
        own = found["path"][path]
        del own["gateway"]
        own |= {"kind": "dhcp", "interface": interface}
    return found


def site(model: str) -> Site:
    """The example site on this model."""
    return parse(table(model), "site.toml")


def board(model: str, dialect: Dialect, *, scheduler: bool = True) -> Board:
    """A router that has not been told anything by DHCP yet."""
    unknown = {"primary": NO_GATEWAY, "lte": NO_GATEWAY}
    return Board(dialect.version, scheduler, ipv6=True, poe=POE[model], addresses=unknown, next_hops=unknown)


def menus() -> list[str]:
    """Every menu that ours may stand in, of both versions, in the order in which they are built."""
    fullest = replace(
        wish(site("rb2011"), board("rb2011", DIALECTS["7.22"])),
        router_pings=True,
        resolvers=("203.0.113.53",),
        voice6=("2001:db8::/32",),
    )
    found = ruleset.menus(build(fullest, DIALECTS["7.22"]))
    found.insert(found.index(DialectV7.rules), DialectV6.rules)
    return found


def rendered() -> dict[Path, str]:
    """Every generated file with its contents."""
    found = {}
    for model, title in TITLES.items():
        for version, dialect in DIALECTS.items():
            name = f"{model}-{version}.rsc"
            found[FOLDER / "rendered" / name] = render.rules(
                wish(site(model), board(model, dialect)),
                dialect,
                texts.script,
                texts.meaning,
                title=title,
                name=name,
                poe=POE[model],
            )
        jobless = wish(site(model), board(model, DIALECTS["7.22"], scheduler=False))
        found[FOLDER / f"netwatch-{model}.rsc"] = render.watches(jobless, texts.script, title=title)
    found[FOLDER / "remove.rsc"] = render_removal.removal(menus(), texts.script)
    for version, dialect in DIALECTS.items():
        found[FOLDER / f"lease-{version}.rsc"] = render.leases(dialect, ("wan", "lte"), "ether1", texts.script)
    return found


def main() -> None:
    """Write them."""
    for path, content in rendered().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
