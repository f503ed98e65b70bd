"""What stands between a request and a tool: memory, retries, breakers, limits and a budget."""
