"""Improve's machinery: trajectories to examples, packing, the loss, one sharded step, checkpoints, and the fit."""
