"""The native fallback as the product makes it: routes that turn by themselves, and the script that frees the phones."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgeagent.core.facts import Lease
from edgeagent.routeros import sentences
from edgeagent.routeros.dialect_v6 import DialectV6
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import Add
from edgeagent.routeros.rows import Dialect, Row, Uplink, Wish
from edgeagent.routeros.ruleset import build
from hil.virtual.addresses import (
    ALIAS_LTE,
    ALIAS_PREFIX,
    ALIAS_PRIMARY,
    CARRIER_GATEWAY,
    ISP_GATEWAY,
    NEUTRAL_TARGETS,
    PI,
    ROUTER_ALIAS,
    ROUTER_LTE,
    ROUTER_WAN,
    SBC,
)
from tests.virtual_kernel.bed import LAN, LTE, PHONE, SILENCE_S, WAN, Phone, Site

pytestmark = pytest.mark.bench
CANARIES = NEUTRAL_TARGETS[:2]
MEDIA_PORT = 30000


def rows(version: str, *, scheduler: bool = True, resolvers: tuple[str, ...] = ()) -> list[Row]:
    dialect: Dialect = DialectV6() if version == "6.49" else DialectV7()
    wish = Wish(
        lan_interface=LAN,
        alias_address=ROUTER_ALIAS,
        alias_prefix=ALIAS_PREFIX,
        uplinks=(
            Uplink("wan", WAN, ISP_GATEWAY, ALIAS_PRIMARY, metered=False, address=ROUTER_WAN),
            Uplink("lte", LTE, CARRIER_GATEWAY, ALIAS_LTE, metered=True, address=ROUTER_LTE),
        ),
        voice=(f"{SBC}/32",),
        agent_hosts=NEUTRAL_TARGETS,
        agent=PI,
        canaries=CANARIES,
        scheduler=scheduler,
        resolvers=resolvers,
    )
    return build(wish, dialect)


def provisioned(site: Site, *, flush: bool = True, scheduler: bool = True) -> None:
    """All rows of the product; what it does each ten seconds is done each second."""
    site.default_via_wan()
    site.do("/ip/firewall/connection/tracking/set", udp_timeout="3m", udp_stream_timeout="3m")
    for row in rows(site.version, scheduler=scheduler):
        if row.name.startswith("flush"):
            if not flush:
                continue
            row = replace(row, attributes={key: text.replace("10s", "1s") for key, text in row.attributes.items()})
        added = Add(row.menu, {**row.attributes, "comment": row.comment})
        site.loop.call(site.store.sentence(sentences.of_change(added)))


def lease(site: Site, name: str, address: str) -> str:
    return site.loop.call(site.store.sentence(sentences.lease_add(Lease(name, address), "site-7")))[-1]["ret"]


def canaries_die(site: Site) -> None:
    for canary in CANARIES:
        site.ip(site.internet, f"address del {canary}/32 dev lo")


def canaries_live(site: Site) -> None:
    for canary in CANARIES:
        site.ip(site.internet, f"address add {canary}/32 dev lo")


def test_a_dead_line_moves_the_phones_and_its_return_brings_them_back_clause_p8(any_site: Site) -> None:
    site = any_site
    provisioned(site)
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    canaries_die(site)
    site.wait(lambda: phone.ask(within_s=SILENCE_S) == ROUTER_LTE)
    call = Phone(site, PHONE, 10000)
    assert call.ask(port=MEDIA_PORT) == ROUTER_LTE
    canaries_live(site)
    site.wait(lambda: phone.ask(within_s=SILENCE_S) == ROUTER_WAN)
    assert call.ask(port=MEDIA_PORT) == ROUTER_LTE, "a call that was born on LTE goes on there"


def test_where_no_jobs_may_run_netwatch_does_it_clause_p8(any_site: Site) -> None:
    """Device-mode of RouterOS 7 forbids jobs; a change of a checked host is told then."""
    site = any_site
    provisioned(site, scheduler=False)
    assert not site.rows("/system/scheduler")
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    site.wait(lambda: all(row["status"] == "up" for row in site.rows("/tool/netwatch") if row["host"] in CANARIES))
    canaries_die(site)
    site.wait(lambda: phone.ask(within_s=SILENCE_S) == ROUTER_LTE)
    canaries_live(site)
    site.wait(lambda: phone.ask(within_s=SILENCE_S) == ROUTER_WAN)


def test_with_no_native_route_in_force_the_flush_touches_nothing_clause_p8(new_site: Site) -> None:
    """Canaries and LTE are dead, and voice goes by the owner's default: its rows are right."""
    site = new_site
    provisioned(site)
    phone = Phone(site)
    canaries_die(site)
    site.ip(site.internet, "link set lte0 down")
    native = [row[".id"] for row in site.rows("/ip/route") if row.get("comment", "").startswith("edgeagent:native-")]
    site.wait(lambda: all(site.row("/ip/route", one)["active"] == "false" for one in native))
    assert phone.ask() == ROUTER_WAN
    job = next(row[".id"] for row in site.rows("/system/scheduler"))
    ran = int(site.row("/system/scheduler", job)["run-count"])
    row_id = site.rows("/ip/firewall/connection")[0][".id"]
    site.wait(lambda: int(site.row("/system/scheduler", job)["run-count"]) >= ran + 3)
    assert row_id in [row[".id"] for row in site.rows("/ip/firewall/connection")]


def test_without_the_flush_a_talking_phone_never_comes_back_on_the_old_kernel(any_site: Site) -> None:
    """The control: on RouterOS 6 a row keeps its address; the newer kernel drops it by itself."""
    site = any_site
    provisioned(site, flush=False)
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    canaries_die(site)
    route = next(
        row[".id"] for row in site.rows("/ip/route") if row.get("comment", "").startswith("edgeagent:native-lte")
    )
    site.wait(lambda: site.row("/ip/route", route)["active"] == "true")
    if site.version == "7.22":
        site.wait(lambda: phone.ask(within_s=SILENCE_S) == ROUTER_LTE)
    else:
        assert ROUTER_LTE not in {phone.ask(within_s=SILENCE_S) for _ in range(8)}


@pytest.mark.parametrize("name", ["edge-alive", "edge-lte-phone", "edge-wan-site"])
def test_while_any_lease_stands_the_flush_leaves_the_rows_to_the_agent(new_site: Site, name: str) -> None:
    site = new_site
    provisioned(site)
    away = lease(site, "edge-lte-site", "0.0.0.0/0")
    phone = Phone(site)
    assert phone.ask() == ROUTER_LTE
    lease(site, name, PI)
    site.do("/ip/firewall/address-list/remove", _id=away)
    rows_before = len(voice_rows(site))
    job = next(row[".id"] for row in site.rows("/system/scheduler"))
    ran = int(site.row("/system/scheduler", job)["run-count"])
    site.wait(lambda: int(site.row("/system/scheduler", job)["run-count"]) >= ran + 3)
    assert len(voice_rows(site)) == rows_before >= 1
    for row in site.rows("/ip/firewall/address-list"):
        if row["list"] == name:
            site.do("/ip/firewall/address-list/remove", _id=row[".id"])
    site.wait(lambda: not voice_rows(site))


def voice_rows(site: Site) -> list[str]:
    return [row[".id"] for row in site.rows("/ip/firewall/connection") if row.get("connection-mark", "") == "edge-lte"]
