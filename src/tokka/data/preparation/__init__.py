"""From accepted rows to versioned splits: deduplication, splitting, digests, DVC."""
