"""The machine the agent runs on: clocks, service manager."""
