"""The loop: trainer, steps, batches, augmentation, loss weights, schedule, checkpoints."""
