"""The nouns of the house: effects, transcripts, trajectories, events, errors. No jax, no clock, no socket."""
