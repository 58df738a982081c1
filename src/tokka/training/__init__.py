"""From prepared rows and a general encoder to a specialist on disk, and its predictions."""
