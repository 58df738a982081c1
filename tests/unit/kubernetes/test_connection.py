"""The connection: what it sends a real HTTP server, and what it makes of the answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from tokka.errors import TokkaError
from tokka.kubernetes.api import INFERENCE_SERVICES, PODS, Conflict, Denied, Invalid, NoAnswer
from tokka.kubernetes.connection import Connection


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        kind = self.headers.get("content-type")
        self.server.seen.append((self.command, self.path, kind, body, self.headers.get("authorization")))
        status, content = self.server.answers.pop(0)
        if status == 0:
            return
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.seen, found.answers = [], []
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    name = {"name": "test"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{**name, "cluster": {"server": f"http://127.0.0.1:{found.server_port}"}}],
        "users": [{**name, "user": {"token": "secret"}}],
        "contexts": [{**name, "context": {"cluster": "test", "user": "test"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def test_the_five_verbs_as_the_api_has_them(server):
    connection = Connection("models")
    server.answers = [(200, {"a": 1}), (200, {"items": [{"b": 2}]}), (201, {"c": 3}), (200, {"d": 4}), (200, {})]
    assert connection.get(INFERENCE_SERVICES, "desk") == {"a": 1}
    assert connection.list(PODS, {"app": "x"}) == [{"b": 2}]
    assert connection.create(INFERENCE_SERVICES, {"spec": {}}) == {"c": 3}
    assert connection.patch(INFERENCE_SERVICES, "desk", {"spec": {"canary": None}}) == {"d": 4}
    connection.delete(INFERENCE_SERVICES, "desk", "7")
    base = "/apis/serving.kserve.io/v1beta1/namespaces/models/inferenceservices"
    assert [one[:2] for one in server.seen] == [
        ("GET", f"{base}/desk"), ("GET", "/api/v1/namespaces/models/pods?labelSelector=app%3Dx"), ("POST", base),
        ("PATCH", f"{base}/desk"), ("DELETE", f"{base}/desk"),
    ]  # fmt: skip
    assert server.seen[3][2:4] == ("application/merge-patch+json", {"spec": {"canary": None}})
    assert server.seen[4][3] == {"preconditions": {"resourceVersion": "7"}}
    assert {one[4] for one in server.seen} == {"Bearer secret"}


def test_what_is_not_there_is_nothing(server):
    server.answers = [(404, {}), (404, {})]
    assert Connection("models").get(INFERENCE_SERVICES, "desk") is None
    Connection("models").delete(INFERENCE_SERVICES, "desk", "7")


@pytest.mark.parametrize(
    ("status", "words", "error"),
    [
        (409, "the object has been modified", Conflict),
        (403, "inferenceservices is forbidden", Denied),
        (403, 'admission webhook "x" denied the request: no', Invalid),
        (401, "Unauthorized", Denied),
        (400, "admission webhook denied the request", Invalid),
        (422, "spec.canary is invalid", Invalid),
        (429, "too many requests", NoAnswer),
        (500, "etcd is away", NoAnswer),
        (503, "apiserver shutting down", NoAnswer),
        (0, "did not answer PATCH", NoAnswer),
    ],
)
def test_what_a_status_means(server, status, words, error):
    server.answers = [(status, {"message": words})] * 5
    with pytest.raises(error, match=words):
        Connection("models").patch(INFERENCE_SERVICES, "desk", {"metadata": {}})


def test_without_a_cluster_it_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(TokkaError) as error:
        Connection("models").groups()
    assert "KUBECONFIG" in error.value.hint
