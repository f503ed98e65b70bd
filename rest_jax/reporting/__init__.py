"""What people see: progress on a terminal, metrics.jsonl, the results table, one self-contained report.html."""
