"""Training: the reference loop, the enforcement of masks, optimizers and schedules, evaluation, checkpoints."""
