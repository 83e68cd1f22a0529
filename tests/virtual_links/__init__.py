"""The link emulator and the beds it runs in."""
