"""Why the store cannot be used. The agent then goes on failing over from memory and says so once (clause C3).

StoreUnavailable  (OSError)   `reason` is one of REASONS
+-- StoreNewer                a newer edgeagent wrote the file; it was not touched
"""

REASONS = {
    "full": "no space is left; free some on the agent's disk",
    "readonly": "it cannot be written; a worn SD card turns read-only: replace it",
    "io": "the disk failed; replace it",
    "corrupt": "its contents are damaged; the agent sets it aside and begins anew when it comes upon that",
    "busy": "another process holds it; only one edgeagent may run",
    "newer": "a newer edgeagent wrote it; install that version again, or move the file away",
    "foreign": "it belongs to another program; give edgeagent a path of its own",
    "hung": "the disk does not answer; too many calls wait for it",
    "closed": "it is closed",
}

# The fault of the catalogue (core/faults.py) that a person is told.
FAULTS = {"full": "store_full", "readonly": "store_readonly", "hung": "store_hung", "newer": "store_newer"}


class StoreUnavailable(OSError):
    """Nothing was stored (for "hung": nothing was even tried)."""

    def __init__(self, reason: str, where: str, detail: str = "") -> None:
        self.reason = reason
        self.fault = FAULTS.get(reason, "store_failed")
        self.detail = detail
        super().__init__(f"store {where}: {REASONS[reason]}" + (f" ({detail})" if detail else ""))


class StoreNewer(StoreUnavailable):
    """The file's format is newer than this program. It is left byte for byte as it was."""

    def __init__(self, where: str, found: int, known: int) -> None:
        self.found = found
        super().__init__("newer", where, f"format {found}, this version knows {known}")
