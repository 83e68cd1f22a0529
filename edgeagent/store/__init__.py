"""The only place that writes to disk: journal, outbox, snapshot."""
