"""``python -m hil demo``: the real agent against a virtual router, in a minute and without root."""
