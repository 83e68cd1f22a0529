"""The running agent: builds the adapters, feeds the core, carries out what it says."""
