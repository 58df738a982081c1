"""The models that are measured: candidate, champion, zero-shot, linear probe, prompted, smaller samples."""
