"""Honest numbers: one record per trajectory, rows with intervals, comparisons paired and clustered by question."""
