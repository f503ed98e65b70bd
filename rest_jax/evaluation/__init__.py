"""Honest numbers: one record per trajectory, rows with intervals, comparisons paired by question and seed."""
