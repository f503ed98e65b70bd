"""Agents: generators of effects, one method a file, and the prompts that open their transcripts. No jax."""
