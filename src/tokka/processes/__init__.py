"""Processes of this machine: owned, detached, supervised, probed, and the log they write."""
