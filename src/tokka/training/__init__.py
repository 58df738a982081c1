"""From prepared rows and a general model to a specialist on disk."""
