"""Bridges: what others have written, served as tools. MCP servers and Python functions."""
