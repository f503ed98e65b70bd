"""Policies that are no engine of ours: they implement `core.policy.Policy` for scripts and servers."""
