"""The configuration a router boots with: ``{menu: [rows]}``, or ``{menu: {settings}}`` for a settings menu.

Rows are written as arguments of ``add``. In a menu whose rows exist already (ports, services, groups, the bridge), a
row changes the one of the same ``name``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hil.virtual.routeros.arguments import check_arguments, check_required
from hil.virtual.routeros.menu import Menu
from hil.virtual.routeros.plane import Row, Trap
from hil.virtual.routeros.store import Store

Initial = Mapping[str, Sequence[Mapping[str, str]] | Mapping[str, str]]

# Menus whose names others refer to; they are loaded before the rest.
FIRST: Final = ("/interface", "/interface/ethernet", "/interface/bridge", "/interface/list", "/routing/table")


def load(store: Store, initial: Initial) -> None:
    """Put an initial configuration into a store; raises ValueError that names the row at fault."""
    for path in sorted(initial, key=lambda path: FIRST.index(path) if path in FIRST else len(FIRST)):
        menu = store.menus.get(path)
        if menu is None:
            raise ValueError(f"initial configuration: RouterOS {store.version} has no menu {path} here")
        given = initial[path]
        if isinstance(given, Mapping) != menu.single:
            expected = "a record of settings" if menu.single else "a list of rows"
            raise ValueError(f"initial configuration: {path} must be {expected}")
        for row in [given] if isinstance(given, Mapping) else given:
            try:
                _load_row(store, menu, dict(row))
            except Trap as trap:
                raise ValueError(f"initial configuration: {path} {dict(row)}: {trap.message}") from None
        store.publish()


def _load_row(store: Store, menu: Menu, row: Row) -> None:
    if menu.single:
        store.set_single(menu, check_arguments(row, menu.fields, store))
        return
    name = row.get("name")
    if name is not None and name in store.names(menu.path):
        changes = {key: value for key, value in row.items() if key != "name"}
        store.set(menu, [name], check_arguments(changes, menu.fields, store))
        return
    if "add" not in menu.commands:
        raise Trap(f"no such row, and {menu.path} takes no new ones on profile {store.profile}")
    check_required(row, menu.required)
    store.add(menu, check_arguments(row, menu.fields, store))
