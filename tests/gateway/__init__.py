"""Tests with real processes on loopback; the modules share one stack, and xdist gives them to one worker."""
