"""The agent's access brought into a router by its owner's SSH login, with the real program and a virtual router."""
