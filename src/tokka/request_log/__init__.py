"""What was asked and answered: framed segments, synced in groups, sealed to Parquet."""
