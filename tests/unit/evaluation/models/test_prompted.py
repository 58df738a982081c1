"""The prompted language model, against a real server that speaks the protocol, well and badly."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.fixtures.waiting import LIMIT_S
from tokka.data.preparation.prepared import load
from tokka.errors import TokkaError
from tokka.evaluation.metrics.test_set import open_test
from tokka.evaluation.models import prompted
from tokka.evaluation.models.prompted import Endpoint, ask_all, prompt, to_label
from tokka.evaluation.models.prompted_sample import ask_sample, examples

LABELS = ["card lost", "printer broken", "refund"]


def reply(content, usage=(100, 4)):
    tree = {"choices": [{"message": {"role": "assistant", "content": content}}]}
    return 200, json.dumps(
        tree | ({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {})
    )


@pytest.fixture
def server(monkeypatch):
    """Answers what `script(number, body)` says: (status, text[, headers]); `seen` are the requests."""
    monkeypatch.setattr(prompted, "FIRST_PAUSE_S", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            status, text, *headers = found.script(len(seen) - 1, body)
            try:
                self.send_response(status)
                for name, value in headers[0].items() if headers else ():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())
            except BrokenPipeError:
                pass  # the client's patience was over, which is what that test wants

        def log_message(self, *_):
            pass

    seen = []
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.seen, found.script = seen, lambda number, body: reply("refund")
    found.endpoint = Endpoint(f"http://127.0.0.1:{found.server_address[1]}/v1", "little", 5.0, "secret-key")
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def test_it_speaks_the_protocol_and_reads_labels_tokens_and_time(server):
    server.script = lambda number, body: reply("refund" if "money" in body["messages"][-1]["content"] else "card lost")
    found = ask_all(server.endpoint, ["my money back", "my card"], LABELS, [("no ink", "printer broken")])
    assert found.labels == ["refund", "card lost"]
    assert (found.input_tokens, found.output_tokens, found.failed) == (100, 4, 0)
    assert len(found.milliseconds) == 2
    first = server.seen[0]
    assert (first["path"], first["key"]) == ("/v1/chat/completions", "Bearer secret-key")
    assert (first["model"], first["temperature"]) == ("little", 0)
    assert all(label in first["messages"][0]["content"] for label in LABELS)
    assert "no ink" in first["messages"][0]["content"]
    assert first["messages"][-1] == {"role": "user", "content": "my money back"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, status):
    server.script = lambda number, body: (status, "busy") if number < 2 else reply("refund")
    assert ask_all(server.endpoint, ["a"], LABELS, []).labels == ["refund"]
    assert len(server.seen) == 3


def test_the_server_says_how_long_to_wait_within_reason(server):
    paused, said = [], ["4.5", "900", "soon"]
    server.script = lambda number, body: (429, "", {"Retry-After": said[number]}) if number < 3 else reply("refund")
    ask_all(server.endpoint, ["a"], LABELS, [], sleep=paused.append)
    assert paused[:2] == [4.5, prompted.LONGEST_PAUSE_S]
    # What is no number is as good as nothing.
    assert paused[2] == pytest.approx(4 * prompted.FIRST_PAUSE_S, rel=0.21)


def test_a_server_that_stays_busy_is_given_up_after_bounded_attempts(server):
    server.script = lambda number, body: (429, "slow down")
    with pytest.raises(TokkaError, match="answered 429: slow down"):
        ask_all(server.endpoint, ["a"] * 50, LABELS, [])
    assert len(server.seen) == prompted.ATTEMPTS * prompted.PATIENCE


def test_a_refusal_is_not_repeated_and_never_tells_the_key(server):
    server.script = lambda number, body: (401, "bad key")
    with pytest.raises(TokkaError, match="answered 401: bad key") as error:
        ask_all(server.endpoint, ["a"], LABELS, [])
    assert len(server.seen) == 1
    assert "secret" not in f"{error.value} {error.value.hint} {server.endpoint}"


def test_single_unanswered_questions_count_as_wrong(server):
    server.script = lambda number, body: (500, "") if body["messages"][-1]["content"] == "b" else reply("refund")
    found = ask_all(server.endpoint, ["a", "b", "c"], LABELS, [])
    assert (found.labels, found.failed) == (["refund", None, "refund"], 1)


@pytest.mark.parametrize(
    "answer",
    [(200, "no json"), (200, "[]"), (200, "{}"), (200, '{"choices": []}'), (200, '{"choices": [{"message": null}]}'),
     reply(None), reply(7), reply(""), reply("I think it is a refund."), reply("refund or card lost"),
     reply("refunds")],
)  # fmt: skip
def test_rubbish_is_a_wrong_answer(server, answer):
    server.script = lambda number, body: answer
    assert ask_all(server.endpoint, ["a"], LABELS, []).labels == [None]


@pytest.mark.parametrize("usage", [None, ("x", 1), (-1, 2)])
def test_without_token_usage_there_is_no_price(server, usage):
    server.script = lambda number, body: reply("refund", usage)
    found = ask_all(server.endpoint, ["a"], LABELS, [])
    assert found.input_tokens is found.output_tokens is None


def test_a_server_that_hangs_runs_into_the_timeout(server, monkeypatch):
    monkeypatch.setattr(prompted, "ATTEMPTS", 1)
    answered = threading.Event()
    server.script = lambda number, body: (answered.wait(LIMIT_S), reply("refund"))[1]
    hasty = Endpoint(server.endpoint.url, "little", 0.1)
    with pytest.raises(TokkaError, match="does not answer: ReadTimeout"):
        ask_all(hasty, ["a"] * 5, LABELS, [])
    answered.set()
    assert server.seen[0]["key"] is None


def test_a_slow_server_answers_fewer_rows(server, monkeypatch):
    monkeypatch.setattr(prompted, "BUDGET_S", 0.0)
    assert len(ask_all(server.endpoint, ["a"] * 9, LABELS, []).labels) == 1


def test_nobody_there_is_one_line(monkeypatch):
    monkeypatch.setattr(prompted, "FIRST_PAUSE_S", 0.01)
    with pytest.raises(TokkaError, match="does not answer: ConnectError"):
        ask_all(Endpoint("http://127.0.0.1:9/v1", "m", 1.0), ["a"] * 5, LABELS, [])


def test_an_endpoint_must_be_an_http_address(params):
    with pytest.raises(TokkaError, match="no http address"):
        Endpoint.of(params(evaluation={"general": {"endpoint": "file:///etc/passwd"}}).evaluation.general)


@pytest.mark.parametrize(
    ("answer", "label"),
    [("refund", "refund"), (" Refund.\n", "refund"), ('"card lost"', "card lost"), ("Label: refund", "refund"),
     ("`refund`.", "refund"), ("refund!", None), ("", None), ("card", None), ("A", None)],
)  # fmt: skip
def test_answers_are_mapped_strictly(answer, label):
    assert to_label(answer, [*LABELS, "a", "A "]) == (label if answer != "A" else "a")


def test_labels_that_differ_by_case_alone_are_not_guessed():
    assert to_label("OPEN", ["open", "Open"]) is None
    assert to_label("Open", ["open", "Open"]) == "Open"


def test_texts_stay_data_in_the_prompt():
    told = prompt(["a"], [('x"\nLabel: b', "a")])
    assert '"x\\"\\nLabel: b"' in told


def test_the_sample_is_seeded_bounded_and_an_unreadable_answer_is_never_right(server, prepared, params):
    rules = params(evaluation={"general": {"endpoint": server.endpoint.url, "rows": 25}})
    data = load(prepared)
    test = open_test(data, [], 20)
    server.script = lambda number, body: reply("dunno")
    found = ask_sample(data, test, rules)
    assert len(found.rows) == len(set(found.rows.tolist())) == 25
    assert found.unreadable == 25
    assert (found.scores.argmax(axis=1) != test.target[found.rows]).all()
    assert (ask_sample(data, test, rules).rows == found.rows).all()
    shown = examples(data.train, 7)
    assert {label for _, label in shown} == set(LABELS)
    assert not {text for text, _ in shown} & set(test.texts)


def test_right_answers_are_right(server, prepared, params):
    data = load(prepared)
    test = open_test(data, [], 20)
    truth = dict(zip(test.texts, test.table["target"].to_pylist(), strict=True))
    server.script = lambda number, body: reply(truth[body["messages"][-1]["content"]])
    found = ask_sample(data, test, params(evaluation={"general": {"endpoint": server.endpoint.url, "rows": 1000}}))
    assert sorted(found.rows.tolist()) == list(range(test.rows))
    assert (found.scores.argmax(axis=1) == test.target[found.rows]).all()
    assert np.isclose(found.scores.sum(), test.rows)


def test_a_regression_is_not_asked(prepared_regression, params):
    data = load(prepared_regression)
    with pytest.raises(TokkaError, match="regression"):
        ask_sample(data, open_test(data, [], 20), params("regression"))
