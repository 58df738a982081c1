"""What serves, and how a version gets there without harm."""
