"""Rollouts: drive many agents over policies and tools; the journal and the store of what they did."""
