"""The sampler: a pure device core (`state`, `steps`), a host scheduler, and the engine that joins the two."""
