"""From raw files to train, validation and test rows that are read strictly, validated, split and versioned."""
