"""One story per file. A scenario speaks to :mod:`hil.bench` only, so a real rig can run it too."""
