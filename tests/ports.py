"""Ports for what a test starts: a stack takes one and its neighbours (gRPC, admin, MLflow's page).

port = free_port()
"""

import random
import socket

# Below those that the kernel gives to whoever connects: a neighbour that is free now is not taken a minute later.
PORTS = range(10_000, 32_000)
NEIGHBOURS = (0, 1, 2, 10)
# Not the generator that a test, or hypothesis, gives a seed: processes would choose alike.
CHOICE = random.SystemRandom()


def free_port() -> int:
    """A port with nobody on it, nor on those beside it that a stack takes."""
    for _ in range(100):
        port = CHOICE.choice(PORTS)
        if all(_is_free(port + step) for step in NEIGHBOURS):
            return port
    raise AssertionError("no free port was found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
