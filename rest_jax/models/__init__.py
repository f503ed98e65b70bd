"""Language models: config, decoder, attention, checkpoints in and out, tokenizers."""
