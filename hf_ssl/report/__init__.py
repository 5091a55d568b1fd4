"""Pictures of a run, drawn from the files in its folder; nothing here is needed for training."""
