"""Asynchronous inference: jobs on a queue, answered by the gateway, with results that are kept once and for all."""
