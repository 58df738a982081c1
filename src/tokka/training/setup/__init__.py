"""What a fit is made of: rows, batches, augmentation, strategy, precision, optimiser."""
