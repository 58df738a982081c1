"""A review counts when the reviewer's own key signed it and the list has that key; nothing else does."""

import base64
import json

import pytest

from tests.unit.deployment.review.test_admission import review
from tokka.deployment.review import signatures
from tokka.errors import Refused, TokkaError, UsageError
from tokka.registry.signing import canonical
from tokka.settings import Settings


def home(folder):
    return Settings.from_environment({"TOKKA_HOME": str(folder), "TOKKA_ROOT": str(folder)})


def test_a_signed_review_is_read_back_and_its_key_is_made_once(tmp_path):
    settings, said = home(tmp_path), review()
    entry = signatures.sign(said, settings)
    listed = signatures.approvers({}, settings)
    assert signatures.read(entry, listed, trust_tags=False) == said
    assert listed == {"ben": signatures.public_key("ben", settings)}
    key = tmp_path / "keys/reviewers/ben.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert signatures.read(signatures.sign(said, settings), listed, trust_tags=False) == said


def test_who_is_not_on_the_list_approves_nothing(tmp_path):
    entry = signatures.sign(review(reviewer="eve"), home(tmp_path / "hers"))
    with pytest.raises(Refused, match="eve is not on the list of approvers"):
        signatures.read(entry, signatures.approvers({}, home(tmp_path / "ours")), trust_tags=False)


def test_a_review_in_anothers_name_or_with_another_content_does_not_hold(tmp_path):
    signatures.sign(review(), home(tmp_path / "ours"))
    listed = signatures.approvers({}, home(tmp_path / "ours"))
    hers = signatures.sign(review(), home(tmp_path / "hers"))
    with pytest.raises(Refused, match="the signature of ben does not hold"):
        signatures.read(hers, listed, trust_tags=False)
    envelope = json.loads(str(signatures.sign(review("refused"), home(tmp_path / "ours"))["envelope"]))
    payload = canonical(review("approved").model_dump(mode="json"))
    forged = {"envelope": json.dumps({**envelope, "payload": base64.b64encode(payload).decode()})}
    for entry in (forged, {"envelope": "{}"}, {"envelope": 7}, {}, {"verdict": "approved"}):
        with pytest.raises(Refused):
            signatures.read(entry, listed, trust_tags=True)


def test_an_unsigned_review_counts_where_tags_are_trusted_and_nowhere_else():
    entry = review(by_tag=True).model_dump(mode="json")
    assert signatures.read(entry, {}, trust_tags=True).by_tag
    with pytest.raises(Refused, match="is not signed"):
        signatures.read(entry, {}, trust_tags=False)
    with pytest.raises(Refused, match="is not signed"):
        signatures.read(review().model_dump(mode="json"), {}, trust_tags=True)


def test_params_go_before_files_and_a_folder_that_others_can_write_is_refused(tmp_path):
    settings = home(tmp_path)
    signatures.sign(review(), settings)
    assert signatures.approvers({"ben": "other", "cem": "k"}, settings) == {"ben": "other", "cem": "k"}
    (tmp_path / "keys/approvers").chmod(0o777)
    with pytest.raises(TokkaError, match="can be written by others"):
        signatures.approvers({}, settings)


def test_a_key_that_others_can_read_and_a_name_that_leads_out_are_refused(tmp_path):
    signatures.sign(review(), home(tmp_path))
    (tmp_path / "keys/reviewers/ben.key").chmod(0o644)
    with pytest.raises(TokkaError, match="can be read by others"):
        signatures.sign(review(), home(tmp_path))
    with pytest.raises(UsageError, match="cannot be a reviewer's name"):
        signatures.sign(review(reviewer="../ben"), home(tmp_path))


def test_a_public_key_without_its_private_half_is_not_replaced(tmp_path):
    signatures.sign(review(), home(tmp_path))
    (tmp_path / "keys/reviewers/ben.key").unlink()
    with pytest.raises(TokkaError, match="works elsewhere"):
        signatures.sign(review(), home(tmp_path))


def test_what_a_server_of_mlflow_signs_counts_for_those_whom_it_asks_and_as_it_was_decided(tmp_path):
    ours, said = home(tmp_path), review(reviewer="ana", in_mlflow=True)
    facts = said.model_dump(include={"model", "version", "model_digest", "verdict", "comment", "time"})
    envelope = signatures.sign_decided(signatures.Decided(**facts, user="ana"), ours)
    entry = {"decided": envelope, "review": said.model_dump(mode="json")}
    listed = signatures.approvers({"ana": signatures.MLFLOW}, ours)
    assert signatures.read(entry, listed, trust_tags=False) == said
    with pytest.raises(Refused, match="ana is no approver by MLflow's authentication"):
        signatures.read(entry, signatures.approvers({}, ours), trust_tags=False)
    with pytest.raises(Refused, match="no key of an MLflow server is known"):
        signatures.read(entry, {"ana": signatures.MLFLOW}, trust_tags=False)
    with pytest.raises(Refused, match="is not what they decided"):
        signatures.read({**entry, "review": {**entry["review"], "version": "9"}}, listed, trust_tags=False)
    with pytest.raises(Refused, match="approves in MLflow's page"):
        signatures.read(signatures.sign(said, ours), listed, trust_tags=False)
    server = signatures.sign(review(reviewer=signatures.SERVER), ours)
    with pytest.raises(Refused, match="not on the list"):
        signatures.read(server, listed, trust_tags=False)
