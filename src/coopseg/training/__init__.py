"""The cooperative step, the loop around it, checkpoints and resuming."""
