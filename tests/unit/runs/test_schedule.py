"""Schedules: what a cron expression may be, and that one always runs, whatever fails on the way."""

import pytest

from tokka.errors import TokkaError, UsageError
from tokka.params import load_params
from tokka.runs.execute import Request
from tokka.runs.kfp_server import KfpServer
from tokka.runs.schedule import checked_cron, listed, schedule
from tokka.settings import KubeflowSettings


@pytest.mark.parametrize(
    "cron", ["0 0 3 * * *", "0  */15 * * * ?", "0 0 0 1,15 jan-jun MON-FRI", "0 0 9-17/2 ? * 1-5", "59 59 23 31 12 6"]
)
def test_six_fields_are_taken(cron):
    assert checked_cron(cron) == " ".join(cron.split())


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 3 * * *", "has 5 fields"),
        ("", "has 0 fields"),
        ("@daily", "has 1 fields"),
        ("60 0 3 * * *", "no second from 0 to 59"),
        ("0 0 24 * * *", "no hour from 0 to 23"),
        ("0 0 3 0 * *", "no day of month from 1 to 31"),
        ("0 0 3 * 13 *", "no month"),
        ("0 0 3 * * 7", "no day of week from 0 to 6"),
        ("0 0 3 * * funday", "no day of week"),
        ("0 0 5-3 * * *", "no hour"),
        ("0 */0 3 * * *", "no minute"),
        ("0 -1 3 * * *", "no minute"),
        ("0 1-2-3 3 * * *", "no minute"),
    ],
)
def test_others_are_refused_with_the_field_that_is_wrong(cron, words):
    with pytest.raises(UsageError, match=words):
        checked_cron(cron)


@pytest.fixture
def request_(settings):
    return Request(params=load_params(settings.root / "params.yaml", ()), pipeline="retrain", cause="drift")


def test_a_change_that_is_refused_leaves_what_runs(fake, server, settings, request_):
    schedule(request_, "0 0 3 * * *", settings, server)
    fake.fail("POST /apis/v2beta1/recurringruns", 400, "cron")
    with pytest.raises(TokkaError, match="could not schedule retrain"):
        schedule(request_, "0 0 4 * * *", settings, server)
    assert [one.cron for one in listed(server)] == ["0 0 3 * * *"]


def test_a_change_that_was_cut_short_is_finished_by_the_next(fake, server, settings, request_):
    schedule(request_, "0 0 3 * * *", settings, server)
    fake.fail("DELETE /apis/v2beta1/recurringruns", 500, "died", times=1)
    with pytest.raises(TokkaError, match="could not delete the schedule"):
        schedule(request_, "0 0 4 * * *", settings, server)
    assert len(listed(server)) == 2
    assert schedule(request_, "0 0 4 * * *", settings, server).change == "unchanged"
    assert [one.cron for one in listed(server)] == ["0 0 4 * * *"]


def test_one_that_somebody_has_switched_off_is_made_anew(fake, server, settings, request_):
    schedule(request_, "0 0 3 * * *", settings, server)
    (one,) = fake.recurring.values()
    one.status = "DISABLED"
    assert not listed(server)[0].enabled
    assert schedule(request_, "0 0 3 * * *", settings, server).change == "changed"
    assert [one.enabled for one in listed(server)] == [True]


def test_other_parameters_are_a_change(server, settings, request_):
    schedule(request_, "0 0 3 * * *", settings, server)
    task = request_.params.task.model_copy(update={"time": None})
    other = request_.model_copy(update={"params": request_.params.model_copy(update={"task": task})})
    assert schedule(other, "0 0 3 * * *", settings, server).change == "changed"
    assert len(listed(server)) == 1


def test_the_schedules_of_others_are_not_shown(fake, server, settings, request_):
    schedule(request_, "0 0 3 * * *", settings, server)
    (one,) = fake.recurring.values()
    one.display_name = "nightly-report"
    assert listed(server) == []


@pytest.mark.parametrize("multi_user", [False, True])
def test_a_namespace_does_no_harm_where_there_is_one_user(fake, settings, request_, multi_user):
    fake.multi_user = multi_user
    own = {"TOKKA_KFP_HOST": fake.host, "TOKKA_KFP_NAMESPACE": "kubeflow"}
    server = KfpServer(KubeflowSettings.from_environment(own))
    assert schedule(request_, "0 0 3 * * *", settings, server).change == "created"
