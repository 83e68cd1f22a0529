"""The agent above its adapters: configuration, ruleset, texts, daemon and commands."""
