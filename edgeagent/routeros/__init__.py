"""The router: rows as data (pure), and the session that carries them (the only I/O here)."""
