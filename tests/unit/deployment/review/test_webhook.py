"""Who may say that it is time to look: MLflow with our secret, now, once; nobody else, however often."""

import base64
import hashlib
import hmac
import json
import random
import threading
import time

import httpx
import pytest

from tests.fixtures.waiting import LOCAL
from tokka.deployment.review import webhook
from tokka.deployment.review.webhook import Deliveries, Receiver, Unauthorised, authenticate

SECRET, NOW = "s" * 32, 1_000_000
BODY = json.dumps({"entity": "model_version_tag", "action": "set", "data": {"name": "desk", "version": "2"}}).encode()


def headers(body=BODY, delivery="d1", moment=NOW, secret=SECRET):
    signed = f"{delivery}.{moment}.".encode() + body
    signature = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": str(moment),
        "x-mlflow-signature": f"v1,{signature}",
    }


def test_what_mlflow_itself_signs_is_believed():
    from mlflow.webhooks.delivery import _generate_hmac_signature

    assert _generate_hmac_signature(SECRET, "d1", str(NOW), BODY.decode()) == headers()["x-mlflow-signature"]
    assert authenticate(headers(), BODY, SECRET, NOW) == "d1"


@pytest.mark.parametrize(
    ("given", "body", "now"),
    [
        (headers(secret="t" * 32), BODY, NOW),
        (headers(), BODY + b" ", NOW),
        (headers() | {"x-mlflow-delivery-id": "d2"}, BODY, NOW),
        (headers() | {"x-mlflow-timestamp": str(NOW + 1)}, BODY, NOW),
        (headers(), BODY, NOW + 301),
        (headers(), BODY, NOW - 301),
        ({}, BODY, NOW),
        (headers() | {"x-mlflow-signature": "v1,é"}, BODY, NOW),
        (headers(moment="now"), BODY, NOW),
        (headers(delivery=""), BODY, NOW),
    ],
)
def test_what_is_forged_or_late_is_not(given, body, now):
    with pytest.raises(Unauthorised):
        authenticate(given, body, SECRET, now)


def test_a_delivery_counts_once_and_ids_are_forgotten():
    seen = Deliveries()
    assert [seen.is_new(one, NOW) for one in ("a", "a", "b")] == [True, False, True]
    assert not seen.is_new("a", NOW + 300)
    assert seen.is_new("c", NOW + 2000)
    assert len(seen._seen) == 1


def test_of_a_thousand_forged_replayed_and_foreign_deliveries_none_wakes():
    woken, lock = [], threading.Lock()

    def wake():
        with lock:
            woken.append(1)

    receiver = Receiver(0, SECRET, "desk", wake)
    address, draw, now = f"http://127.0.0.1:{receiver.port}{webhook.PATH}", random.Random(7), int(time.time())
    other = json.dumps({"data": {"name": "another"}}).encode()
    try:
        with httpx.Client(**LOCAL) as client:
            assert client.post(address, content=BODY, headers=headers(delivery="true", moment=now)).status_code == 204
            codes = {}
            for number in range(1000):
                kind = draw.choice(["forged", "replayed", "late", "foreign"])
                given, body = {
                    "forged": (headers(secret="x" * 32, moment=now), BODY),
                    "replayed": (headers(delivery="true", moment=now), BODY),
                    "late": (headers(delivery=f"{number}", moment=now - 400), BODY),
                    "foreign": (headers(other, f"{number}", now), other),
                }[kind]
                codes.setdefault(kind, set()).add(client.post(address, content=body, headers=given).status_code)
            assert codes == {"forged": {401}, "late": {401}, "replayed": {204}, "foreign": {204}}
            assert client.post(address, content=b"x" * 70_000, headers=headers()).status_code == 413
            assert client.post(address + "/other", content=BODY, headers=headers()).status_code == 404
    finally:
        receiver.close()
    assert len(woken) == 1
