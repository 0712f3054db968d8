"""Planning a run: what it needs (prune), what each read sees (state_order), what XLA compiles (segments)."""
