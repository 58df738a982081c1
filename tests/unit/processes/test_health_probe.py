"""A health probe counts what was missed, and one answer forgives it."""

import socket

from tokka.processes.health_probe import HealthProbe


def test_one_answer_forgives_what_was_missed():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        probe = HealthProbe(listener.getsockname()[1])
        # Asked at 0, missed at 1.1; asked again at once, missed at 2.1; asked again at once, answered.
        assert [probe.misses(now) for now in (0.0, 0.9, 1.1, 1.2, 2.1, 2.3, 2.4)] == [0, 0, 1, 1, 2, 2, 2]
        for _ in range(3):
            connection, _ = listener.accept()
            connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        assert probe.misses(2.5) == 0
        probe.close()
    # Nobody listens any more.
    assert [probe.misses(now) for now in (9.0, 9.1, 9.6, 9.7)] == [0, 1, 1, 2]
