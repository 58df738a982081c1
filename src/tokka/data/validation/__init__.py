"""What rows must be like: an expectation suite, quarantine, Data Docs."""
