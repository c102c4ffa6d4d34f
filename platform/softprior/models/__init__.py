"""Frozen language models behind one protocol: `FrozenLM`, and the hosts that speak it."""
