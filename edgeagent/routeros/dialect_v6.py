"""RouterOS 6.49: tables arise from routing marks, rules live in /ip/route/rule."""

from __future__ import annotations

from edgeagent.routeros.rows import Row


class DialectV6:
    """How version 6 says it (MikroTik wiki, "Manual:IP/Route")."""

    version = "6"
    rules = "/ip/route/rule"

    def table(self, name: str) -> list[Row]:
        """A table exists as soon as a route carries its mark."""
        del name
        return []

    def default_route(self, table: str, gateway: str) -> Row:
        """One default by the uplink's gateway."""
        attributes = {"dst-address": "0.0.0.0/0", "gateway": gateway, "routing-mark": table}
        return Row("/ip/route", f"default-{table}", attributes)

    def blackhole(self) -> Row:
        """The last resort in main."""
        return Row("/ip/route", "blackhole", {"dst-address": "0.0.0.0/0", "type": "blackhole", "distance": "254"})

    def source_rule(self, name: str, source: str, table: str, *, only: bool) -> Row:
        """Steer by source."""
        action = "lookup-only-in-table" if only else "lookup"
        return Row(self.rules, name, {"src-address": f"{source}/32", "action": action, "table": table})
