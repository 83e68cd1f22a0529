"""site.toml -> Site: parsed once, wholly, into frozen values; every problem is told at once."""
