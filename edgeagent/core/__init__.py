"""The pure core: what was observed goes in, what is wanted comes out. No I/O, no clock, no randomness, no prose.

Start reading at :mod:`edgeagent.core.turn`; the rules of failing over stand at the top of
:mod:`edgeagent.core.failover`.
"""
