"""Slipway beside its peers, measured in one run. Start it with scripts/bench; README.md says how to read it."""
