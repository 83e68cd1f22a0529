"""The script interpreter alone, and the jobs that run it on a router."""

from __future__ import annotations

import asyncio

import pytest

from hil.virtual.addresses import ROUTER_WAN, SBC
from hil.virtual.routeros.kernel_script import Interpreter
from hil.virtual.routeros.kernel_syntax import ScriptError, scan, statements, words
from hil.virtual.routeros.kernel_timers import icmp_verdict
from hil.virtual.routeros.plane import Row, Trap
from tests.virtual_kernel.bed import Phone, Site

CONNECTIONS: list[Row] = [
    {".id": "*1", "dst-address": "203.0.113.10:5060", "reply-dst-address": "192.0.2.2:5062", "protocol": "udp"},
    {".id": "*2", "dst-address": "203.0.113.10:5060", "reply-dst-address": "198.51.100.2:5062", "protocol": "udp"},
    {".id": "*3", "dst-address": "203.0.113.10:9", "reply-dst-address": "192.0.2.2:9", "connection-mark": "media"},
]  # fmt: skip


class Router:
    """Answers sentences from fixed rows and remembers the writes."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.logged: list[tuple[str, str]] = []
        self.menus: dict[str, list[Row]] = {
            "/ip/firewall/connection": CONNECTIONS,
            "/ip/firewall/address-list": [{".id": "*7", "list": "edge-alive", "address": "0.0.0.0/0"}],
            "/ip/route": [{".id": "*9", "active": "true", "comment": "edgeagent:native", "distance": "1"}],
            "/ip/address": [{".id": "*4", "interface": "ether1", "address": "192.0.2.2/24", "disabled": "false"}],
        }

    async def sentence(self, given: list[str]) -> list[Row]:
        menu, _, command = given[0].rpartition("/")
        if command == "print":
            if "frobnicate" in menu:
                raise Trap("no such command prefix", 0)
            return self.menus.get(menu, [])
        self.written.append(given)
        return []

    def run(self, source: str) -> list[list[str]]:
        asyncio.run(Interpreter(self.sentence, lambda *line: self.logged.append(line)).run(source))
        return self.written


def test_text_falls_into_statements_words_and_tokens() -> None:
    source = '# a comment; with a brace {\n:local a "x;y"; :if ($a = \\\n  "z") do={\n :put 1\n # more }\n}\n'
    assert statements(source) == [':local a "x;y"', ':if ($a = "z") do={\n :put 1\n # more }\n}']
    assert words(':if ([:len [find where a="b c"]] = 0) do={ :put 1 }') == [
        ":if", '([:len [find where a="b c"]] = 0)', "do={ :put 1 }",
    ]  # fmt: skip
    assert scan('dst-address~"^1\\\\." !disabled') == [
        ("word", "dst-address"), ("operator", "~"), ("string", "^1\\\\."), ("operator", "!"), ("word", "disabled"),
    ]  # fmt: skip


def test_the_standing_flush_of_the_design() -> None:
    router = Router()
    source = """
:if ([:len [/ip firewall address-list find where list="edge-alive"]] = 0) do={
  :log warning "not reached"
} else={
  :local wan [/ip address get [find where interface="ether1"] address]
  :set wan [:pick $wan 0 [:find $wan "/"]]
  /ip firewall connection remove [find where dst-address~"^203\\\\.0\\\\.113\\\\." reply-dst-address~"^$wan:" \\
    connection-mark!="media"]
  :log info "flushed $wan"
}
"""
    assert router.run(source) == [["/ip/firewall/connection/remove", "=.id=*1"]]
    assert router.logged == [("info", "flushed 192.0.2.2")]


def test_loops_conditions_and_expressions() -> None:
    router = Router()
    router.run(
        ":local n 0\n"
        ":for i from=1 to=3 do={ :set n ($n + $i) }\n"
        ":set n ($n - 6)\n"
        ':foreach i in=[/ip/firewall/connection find where protocol=udp and !(reply-dst-address~"^192")] do={\n'
        "  /ip/firewall/connection/remove $i; :set n ($n + 1) }\n"
        ':if (($n = 1) && ([/ip route get [find comment="edgeagent:native"] distance] < 2)) do={ :put ("n=" . $n) }\n'
        ":if ([:len [/ip route find where active !disabled]] > 0 or false) do={ /ip route disable [find distance=1] }\n"
        ':do { :error "boom" } on-error={ :log error "caught" }\n'
    )
    assert router.written == [["/ip/firewall/connection/remove", "=.id=*2"], ["/ip/route/disable", "=.id=*9"]]
    assert router.logged == [("info", "n=1"), ("error", "caught")]


def test_a_text_becomes_code_with_variables_of_its_own_and_an_address_is_in_a_prefix() -> None:
    router = Router()
    router.run(
        ":local n 1\n"
        ':local code [:parse (":local n " . "7; :put \\$n")]\n'
        "$code; :put $n\n"
        ":put (192.0.2.9 in 192.0.2.8/29); :put (192.0.2.16 in 192.0.2.8/29); :put (x in 192.0.2.8/29)\n"
    )
    assert [said for _, said in router.logged] == ["7", "1", "true", "false", "false"]


def test_add_and_set_take_properties() -> None:
    router = Router()
    router.run(
        '/ip firewall address-list\nadd list=x address=1.2.3.4 comment="a b"\nset [find list=edge-alive] timeout=30s'
    )
    assert router.written == [
        ["/ip/firewall/address-list/add", "=list=x", "=address=1.2.3.4", "=comment=a b"],
        ["/ip/firewall/address-list/set", "=.id=*7", "=timeout=30s"],
    ]


@pytest.mark.parametrize(
    "source", [":frobnicate 1", ":if (1 = 1", "/ip route frobnicate", ":local x [/ip/route get [find a=b] c]"]
)
def test_what_it_does_not_know_stops_it(source: str) -> None:
    with pytest.raises(ScriptError):
        Router().run(source)


def test_a_burst_of_echoes_is_judged_by_loss_and_time() -> None:
    assert icmp_verdict({}, 10, [0.02] * 2)
    assert not icmp_verdict({}, 10, [0.02])
    assert not icmp_verdict({}, 10, [0.2] * 10)
    assert icmp_verdict({"thr-avg": "300ms"}, 10, [0.2] * 10)


@pytest.mark.bench
def test_a_scheduler_flushes_rows_and_reports_a_wrong_script(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    site.masquerade()
    phone = Phone(site)
    assert phone.ask() == ROUTER_WAN
    site.add(
        "/system/script", name="flush", source=f'/ip firewall connection remove [find where dst-address~"^{SBC}:"]'
    )
    site.add("/system/scheduler", name="standing", interval="1s", on_event="flush")
    site.add("/system/scheduler", name="wrong", interval="1s", on_event=":frobnicate")

    def udp() -> list[Row]:
        return [row for row in site.rows("/ip/firewall/connection") if row["protocol"] == "udp"]

    assert udp()
    site.wait(lambda: not udp())
    site.wait(lambda: any("frobnicate" in row["message"] for row in site.rows("/log")))
    assert int(site.rows("/system/scheduler")[0]["run-count"]) >= 1


@pytest.mark.bench
def test_netwatch_runs_its_scripts(any_site: Site) -> None:
    site = any_site
    site.default_via_wan()
    up, down = ":log info seen-up", ":log info seen-down"
    watch = site.add("/tool/netwatch", host=SBC, interval="1s", up_script=up, down_script=down)
    site.wait(lambda: site.row("/tool/netwatch", watch)["status"] == "up")
    site.ip(site.internet, f"address del {SBC}/32 dev lo")
    site.wait(lambda: site.row("/tool/netwatch", watch)["status"] == "down")
    site.wait(lambda: [row["message"] for row in site.rows("/log")][-2:] == ["seen-up", "seen-down"])
