"""What every request passes: HAProxy, API keys and bearer tokens, the access log, a client."""
