"""What the candidate is worth, with intervals, and the gate that decides on it."""
