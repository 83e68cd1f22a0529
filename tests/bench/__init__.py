"""Tests of what judges: reports, events, checkers, scenarios and the bench's command line."""
