"""Why pods do not start: the sentence of whoever ended, whichever container, mode and form of log it is."""

import json

import pytest

from tokka.kubernetes.failures import of_pod, of_service, spoken

ERROR = {"level": "ERROR", "message": "/mnt/models holds another model", "hint": "fetch it again"}
REFUSED = (
    "looking at version 3\nrefused: the model aaaa of version 3 is not the one\nthat was signed\n  → train it again\n"
)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (json.dumps(ERROR) + "\n", "/mnt/models holds another model; fetch it again"),
        (
            json.dumps(ERROR) + '\n{"level": "INFO", "message": "bye"}\n',
            "/mnt/models holds another model; fetch it again",
        ),
        (REFUSED, "refused: the model aaaa of version 3 is not the one that was signed; train it again"),
        (
            json.dumps({"level": "CRITICAL", "message": "uncaught", "exception": {"type": "OSError", "says": "full"}}),
            "uncaught; OSError: full",
        ),
        ("one\nKilled\n", "Killed"),
        ('{"level": ["ERROR"', '{"level": ["ERROR"'),
        ("", ""),
    ],
)
def test_the_sentence_in_the_end_of_a_log(message, said):
    assert spoken(message) == said


def terminated(message="", code=3):
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message}}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"containerStatuses": [{"name": "serves", "state": {"waiting": {"reason": "PodInitializing"}}}]}, ""),
        ({"containerStatuses": [{"name": "serves", "ready": True, "lastState": terminated("old")}]}, ""),
        (
            {"initContainerStatuses": [
                {"name": "fetches", "state": {"waiting": {"reason": "BackOff"}}, "lastState": terminated(REFUSED)}
             ]},
            "its fetches says: refused: the model aaaa of version 3 is not the one that was signed; train it again",
        ),
        (
            {"initContainerStatuses": [{"name": "fetches", "ready": True, "state": terminated(code=0)}],
             "containerStatuses": [{"name": "serves", "state": terminated(json.dumps(ERROR))}]},
            "its serves says: /mnt/models holds another model; fetch it again",
        ),
        ({"containerStatuses": [{"name": "serves", "state": terminated(code=137)}]},
         "its serves says: Error (exit code 137)"),
        ({"containerStatuses": [{"name": "s", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}}}]},
         "its s says: no such"),
        ({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: too little memory"},
                         {"type": "Ready", "status": "False", "message": "containers are not ready"}]},
         "0/1 nodes: too little memory"),
    ],
)  # fmt: skip
def test_why_a_pod_is_not_ready(status, said):
    assert of_pod(status) == said


def test_why_a_predictor_is_not_ready_by_what_kserve_says():
    failure = {"reason": "ModelLoadFailed", "message": json.dumps(ERROR)}
    conditions = [
        {"type": "Ready", "status": "False", "message": "it is not"},
        {"type": "PredictorReady", "status": "False", "message": "Deployment does not have minimum availability"},
        {"type": "CanaryPredictorReady", "status": "False", "reason": "MinimumReplicasUnavailable"},
    ]
    status = {"modelStatus": {"lastFailureInfo": failure}, "conditions": conditions}
    assert of_service({"status": status}, stable=True) == "/mnt/models holds another model; fetch it again"
    assert of_service({"status": {"conditions": conditions}}, stable=True).startswith("Deployment does not have")
    assert of_service({"status": status}, stable=False) == "MinimumReplicasUnavailable"
    assert (
        of_service({"status": {"modelStatus": {"lastFailureInfo": {"reason": "BadModel"}}}}, stable=True) == "BadModel"
    )
    assert of_service({}, stable=True) == of_service({"status": {}}, stable=False) == ""
