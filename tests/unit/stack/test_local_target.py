"""Asking workers directly: what a killed one leaves is answered by the others, and is no word about the model."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tokka.errors import TokkaError
from tokka.stack.local_target import _ask_any

ROWS = [{"text": f"message {number}"} for number in range(6)]


def ask(ports, rows):
    with httpx.Client(trust_env=False) as client:
        return [_ask_any(client, ports, row) for row in rows]


@pytest.fixture
def worker():
    """Makes workers that answer so many requests and then break off, as a killed one does."""
    made = []

    def start(answers: int, status: int = 200) -> int:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            left = answers

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                if type(self).left == 0:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                type(self).left -= 1
                body = json.dumps({"label": str(self.server.server_port), "error": "busy"}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
        return server.server_port

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


def test_what_a_killed_worker_leaves_is_asked_of_the_next_one(worker):
    dying, living = worker(2), worker(100)
    answers = ask([dying, living], ROWS)
    assert [answer.label for answer in answers] == [str(dying)] * 2 + [str(living)] * 4
    assert not any(answer.error for answer in answers)


def test_without_anybody_left_there_is_no_answer_and_no_evidence(worker):
    with pytest.raises(TokkaError, match="broke off"):
        ask([worker(2), worker(1)], ROWS)


def test_an_answer_that_says_it_failed_is_the_model_s_failure(worker):
    assert [answer.error for answer in ask([worker(100, status=503)], ROWS[:1])] == ["503: busy"]
