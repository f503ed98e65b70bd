"""Environments: worlds with a state of their own for each episode, played by stateful tools."""
