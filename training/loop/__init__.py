"""The ranks: the training loop, its checkpoints, and what starts them."""
