"""The loops: what is done in which order, stage by stage, so that a killed run goes on where it stood."""
