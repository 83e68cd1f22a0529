"""Seeded fuzzers: input that nobody would write, and what must hold of it. Each runs long by ``make fuzz``."""
