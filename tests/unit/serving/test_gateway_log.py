"""The thread that takes the gateway's log lines."""

import socket

import pytest

from tokka.serving.gateway_log import Receiver
from tokka.serving.request_log import Writer


@pytest.mark.parametrize("line", [b"[" * 8000, b"\xff", b"{}", b""])
def test_the_log_of_the_gateway_outlives_nonsense(tmp_path, line):
    receiver = Receiver(Writer(tmp_path, "gateway"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(line, ("127.0.0.1", receiver.port))
    receiver._thread.join(0.5)
    assert receiver._thread.is_alive()
    receiver.close()
