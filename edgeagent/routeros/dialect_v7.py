"""RouterOS 7.12 and later: tables are made explicitly, rules live in /routing."""

from __future__ import annotations

from edgeagent.routeros.rows import Row


class DialectV7:
    """How version 7 says it (MikroTik manual, "Policy Routing" and "IP Routing")."""

    version = "7"
    rules = "/routing/rule"

    def table(self, name: str) -> list[Row]:
        """Tables must exist before a route or a mark may name them."""
        return [Row("/routing/table", f"table-{name}", {"name": name, "fib": ""})]

    def default_route(self, table: str, gateway: str) -> Row:
        """One default by the uplink's gateway."""
        attributes = {"dst-address": "0.0.0.0/0", "gateway": gateway, "routing-table": table}
        return Row("/ip/route", f"default-{table}", attributes)

    def blackhole(self) -> Row:
        """The last resort in main."""
        return Row("/ip/route", "blackhole", {"dst-address": "0.0.0.0/0", "blackhole": "", "distance": "254"})

    def source_rule(self, name: str, source: str, table: str, *, only: bool) -> Row:
        """Steer by source."""
        action = "lookup-only-in-table" if only else "lookup"
        return Row(self.rules, name, {"src-address": f"{source}/32", "action": action, "table": table})
