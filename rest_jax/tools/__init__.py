"""Tools and the adapter process that answers their calls. No jax, no transformers."""
