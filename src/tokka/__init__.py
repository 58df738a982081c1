"""Tokka turns a general pretrained transformer into a specialist for one domain and keeps it sharp."""
