"""What KFP's server answers, in words: which error it is, what it names, and what to do."""

import json

import pytest

from tokka.errors import TokkaError
from tokka.runs.kfp_server import Exists, Missing, NoAnswer, explain, skew

HOST = "https://kfp.example.com"


def told(code: int, said: str) -> str:
    return json.dumps({"error": said, "code": code, "message": said, "details": []})


@pytest.mark.parametrize(
    ("status", "body", "kind", "message", "hint"),
    [
        (401, told(16, "no user identity header"), TokkaError, "does not know who asks (401): no user", "TOKEN_FILE"),
        (403, told(7, "cannot create runs"), TokkaError, "does not allow it (403): cannot create", "NAMESPACE"),
        (404, told(5, "Run 7 not found"), Missing, "not there (404): Run 7 not found", "status --remote"),
        (404, "404 page not found", Missing, "has no API of Kubeflow Pipelines v2", "/pipeline"),
        (404, "<html>nothing here</html>", Missing, "has no API of Kubeflow Pipelines v2 (404)", "/pipeline"),
        (409, json.dumps({"error_message": "Failed to create"}), Exists, "taken (409): Failed to create", "name"),
        (429, "", TokkaError, "quota or rate limit", "quota"),
        (500, told(13, 'pods "x" is forbidden: exceeded quota: cpu'), TokkaError, "quota or rate limit", "run to end"),
        (400, told(8, "grpc: received message larger than max"), TokkaError, "quota or rate limit", "again"),
        (501, told(12, "unknown service"), TokkaError, "does not know the call", "SDK"),
        (400, told(3, "parameter x is unknown"), TokkaError, "refuses the request (400): parameter x", "compile"),
        (500, told(13, "Internal Server Error"), TokkaError, "not well (500)", "ml-pipeline"),
        (503, "upstream connect error", NoAnswer, "not well (503): upstream connect error", "ml-pipeline"),
        (0, "", TokkaError, "no trusted connection", "SSL_CERT_FILE"),
    ],
)
def test_an_answer_in_words(status, body, kind, message, hint):
    error = explain(status, body, "start the run", HOST, "")
    assert type(error) is kind
    assert error.message.startswith("could not start the run: ")
    assert message in error.message
    assert hint in error.hint
    assert "\n" not in error.message
    assert error.exit_code == 1


def test_a_refused_credential_is_named_and_not_shown():
    error = explain(401, told(16, "expired"), "list the runs", HOST, "TOKKA_KFP_TOKEN_FILE")
    assert "TOKKA_KFP_TOKEN_FILE was sent" in error.hint
    assert "no credential was sent" in explain(401, "", "list the runs", HOST, "").hint


@pytest.mark.parametrize("body", ["", "null", "[]", "3", '{"code": "x"}', '{"message": null}', "<", "x" * 9000])
def test_whatever_comes_is_a_line(body):
    error = explain(418, body, "look", HOST, "")
    assert len(error.message) < 600


def test_versions_that_differ_in_the_last_number_agree():
    assert skew("2.17.1", "2.17.0") == ""
    assert skew("", "2.17.0") == ""
    assert skew("main", "2.17.0") == ""
    assert "2.3.0" in skew("v2.3.0", "2.17.0")
