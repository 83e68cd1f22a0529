"""A virtual RouterOS: its API on the wire, typed menus of two versions, and a plane that gives rows their effect."""
