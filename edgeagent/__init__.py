"""edgeagent keeps a small site's VoIP phones reachable over LTE when its internet line fails."""
