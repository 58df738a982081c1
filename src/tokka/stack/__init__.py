"""The local stack: daemon, services, workers, admin page."""
