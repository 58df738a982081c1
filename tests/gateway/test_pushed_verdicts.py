"""Attacks on the verdict about a sound challenger, by clients with a key and by another account of this machine."""

import gzip
import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from tests.fixtures.waiting import LOCAL, PATIENCE_S, wait_for
from tests.fixtures.world import NAME
from tokka.deployment.judge.live_judge import judge_ab, judge_traffic
from tokka.deployment.traffic_columns import TrafficColumns
from tokka.gateway.api_keys import KeyStore, own_headers

SHARE, USERS = 0.5, 60
# As another account: whether it gets in. The message is the second argument.
STRANGER = """
import socket, sys
with socket.socket(socket.AF_UNIX, int(sys.argv[2])) as found:
    found.connect(sys.argv[1])
    found.sendall(sys.stdin.buffer.read())
"""


@pytest.fixture(scope="module")
def attacked(make_world):
    made = make_world(authentication="on", max_rows=256)
    made.install("1")
    made.up()
    made.change(rollout="tried")
    made.challenge("2", SHARE)
    made.wait(lambda: made.ask(**own_headers(made.settings.home)).status_code == 200)
    return made


@pytest.fixture(scope="module")
def keys(attacked):
    store = KeyStore(attacked.settings.home)
    return {scope: store.create(scope, scope.split("+"))[0] for scope in ("predict", "predict+feedback")}


@pytest.fixture
def client(attacked, keys):
    with httpx.Client(base_url=attacked.url, headers={"x-api-key": keys["predict+feedback"]}, **LOCAL) as made:
        yield made


@pytest.fixture(autouse=True)
def verdict_stands(attacked):
    """After each attack: nothing has moved."""
    yield
    canary = attacked.params.canary
    # What was asked last is in the log: the gateway's lines come in order.
    last = attacked.ask(**own_headers(attacked.settings.home)).json()["prediction_id"]
    wait_for(lambda: any(one["prediction_id"] == last for one in attacked.logged("request")))
    columns = TrafficColumns(challenger="2", slow_ms=canary.slow_ms)
    columns.take([one for kind in ("request", "prediction", "feedback") for one in attacked.logged(kind)])
    traffic = columns.traffic()
    judged = judge_traffic(traffic, SHARE, canary)
    print(f"\n{traffic.size} requests, {judged.verdict}: {judged.values}")
    assert judged.verdict != "roll_back" and judge_ab(traffic, canary.alpha).verdict == "hold"
    assert all(judged.values[name] < 2.0 for name in ("errors", "slow", "wrong", "refused"))


def on_challenger(client, prefix):
    """The attacker's users whose side is the challenger's, as the answers say."""
    users = [f"{prefix}{number}" for number in range(USERS)]
    found = [user for user in users if ask(client, user).json()["canary"]]
    # A user stays where it is, and no plain hash of its name says where.
    assert all(ask(client, user).json()["canary"] for user in found) and 10 < len(found) < USERS - 10
    return found


def ask(client, user, body=None):
    return client.post("/predict", json=body or {"text": "my card"}, headers={"x-user-id": user})


def test_bad_requests_of_users_that_are_known_to_be_on_the_challenger(client):
    for user in on_challenger(client, "bad"):
        for body in ({"texts": ["x"] * 257}, {"text": "x" * 30_000}, {"text": 3}, {"texts": []}):
            assert ask(client, user, body).status_code in (400, 413, 422)


def test_many_rows_and_requests_that_are_broken_off(client, attacked, keys):
    users = on_challenger(client, "slow")
    for user in users[:6]:
        assert ask(client, user, {"texts": ["a long question about my card"] * 256}).status_code == 200
    body = json.dumps({"texts": ["a long question about my card"] * 256}).encode()
    for user in users:
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\nx-api-key: {keys['predict']}\r\nx-user-id: {user}\r\n"
        with socket.create_connection(("127.0.0.1", attacked.settings.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def test_labels_against_the_challenger(client, attacked, keys):
    for user in on_challenger(client, "label"):
        told = {"prediction_id": ask(client, user).json()["prediction_id"], "label": "nonsense"}
        assert [client.post("/feedback", json=told).status_code for _ in range(3)] == [200] * 3
        refused = client.post("/feedback", json=told, headers={"x-api-key": keys["predict"]})
        assert refused.status_code == 403
    for name in ("0" * 32, told["prediction_id"][:-1] + "_", "91cadb89-593c-4055-a65d-b08e97436e0e-68C4AEBFE7A6AC1F"):
        answer = client.post("/feedback", json={"prediction_id": name, "label": "x"})
        assert (answer.status_code, answer.json()["error"]) == (404, "there is no prediction with this id")


@pytest.mark.parametrize("version", ["1", "2", "99"])
def test_a_version_that_is_named_in_a_way_that_the_gateway_cannot_read(attacked, keys, version):
    """Refused on one side only: in gzip, or in a field that is there twice."""
    column = messages.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[1], contents=messages.InferTensorContents(bytes_contents=[b"my card"])
    )
    plain = messages.ModelInferRequest(model_name=NAME, inputs=[column]).SerializeToString()
    field = messages.ModelInferRequest(model_version=version).SerializeToString()
    twice = b"\x12\x00" + plain + field
    seen = set()
    for number in range(2 * USERS):
        metadata = (("x-api-key", keys["predict"]), ("x-user-id", f"named{version}-{number}"))
        content, packed = ((plain + field, True), (twice, False))[number % 2]
        seen.add(infer(attacked.settings.grpc_port, content, metadata, packed=packed))
    assert seen <= {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND}
    named = [one for one in attacked.logged("request") if one.get("named") and one["protocol"] == "grpc"]
    print(f"\nversion {version}: {seen}, {len(named)} known as named")
    if version != "99":
        assert grpc.StatusCode.OK in seen


def infer(port, content, metadata, *, packed):
    options = [("grpc.default_compression_algorithm", 2 if packed else 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            call(content, metadata=metadata, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def test_other_ways_to_send_the_same(client):
    """Compressed over REST, tensors by name, parameters, other types: both sides do the same, or it is a refusal."""
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["my card"]}]}
    sent = [
        (json.dumps(body).encode(), {}),
        (gzip.compress(json.dumps(body).encode()), {"content-encoding": "gzip"}),
        (json.dumps({**body, "outputs": [{"name": "label"}]}).encode(), {}),
        (json.dumps({**body, "outputs": [{"name": "value"}]}).encode(), {}),
        (json.dumps({**body, "parameters": {"top_k": 2}}).encode(), {}),
        (json.dumps(body).encode(), {"content-type": "application/octet-stream"}),
        (json.dumps(body).encode() + b" " * 32_700, {}),
        (b" " * 1_000_001, {}),
    ]
    for user in range(USERS // 2):
        for content, headers in sent:
            user_id = {"x-user-id": f"other{user}"}
            answer = client.post(f"/v2/models/{NAME}/infer", content=content, headers={**user_id, **headers})
            assert answer.status_code in (200, 400, 413, 415, 422), answer.text


def test_a_worker_answers_the_gateway_alone_and_what_was_logged_stays(attacked, client):
    known = ask(client, "worker").json()["prediction_id"]
    forged = {"x-request-id": known, "x-tokka-canary": "1", "x-tokka-share": "0.5", "x-tokka-key": "0" * 64}
    for worker in attacked.workers("1") + attacked.workers("2"):
        url = f"http://127.0.0.1:{worker.port}"
        for path, body in (("/predict", {"text": "x"}), ("/feedback", {"prediction_id": known, "label": "x"})):
            answer = httpx.post(f"{url}{path}", json=body, headers=forged, **LOCAL)
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/json")
        code = infer(worker.grpc_port, b"", (("x-request-id", known),), packed=False)
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert httpx.get(f"{url}/health", **LOCAL).status_code == 200
    wait_for(lambda: [one for one in attacked.logged("request") if one["prediction_id"] == known])
    assert len([one for one in attacked.logged("prediction") if one["prediction_id"] == known]) == 1


def test_another_account_reaches_no_socket_and_reads_no_key(attacked):
    """On a machine where tests run as root, a stranger is really another account."""
    home, folder = attacked.settings.home, attacked.settings.home / "stack"
    line = b'{"id":"x","time_us":1,"route":"predict","status":500}\n' * 400
    for path in [*folder.glob("*.sock"), *folder.glob("*.key"), folder / "haproxy.cfg", home / "keys.db"]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert folder.stat().st_mode & 0o777 == 0o700
    if subprocess.run(["setpriv", "--reuid=65534", "true"], check=False).returncode == 0:
        for parent in [home, *home.parents]:
            if parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)
        for path in folder.glob("*.sock"):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                told = [sys.executable, "-c", STRANGER, str(path), str(int(kind))]
                stranger = ["setpriv", "--reuid=65534", "--clear-groups", *told]
                done = subprocess.run(stranger, input=line, capture_output=True, check=False)
                assert b"PermissionError" in done.stderr, done.stderr
    assert not [one for one in attacked.logged("request") if one["prediction_id"] == "x"]
