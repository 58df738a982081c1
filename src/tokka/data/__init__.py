"""From a raw file to versioned train, validation and test rows."""
