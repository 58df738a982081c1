"""tokka schedule: recurring runs on Kubeflow, one per pipeline, brought to what is wanted however often one asks."""

import re

from pydantic import BaseModel

from tokka.errors import UsageError
from tokka.files import Tree
from tokka.runs import ir
from tokka.runs.execute import Request
from tokka.runs.kfp_server import Foreign, KfpServer, equals
from tokka.runs.submission import experiment_id, remote_arguments, require_reachable, service_account
from tokka.runs.upload import AS_COMPILED, Build, upload_pipeline
from tokka.settings import Settings

PREFIX = "tokka-"
FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
)
NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
EXAMPLE = 'six fields, from seconds to the day of the week: --cron "0 0 3 * * *" is every day at three, UTC'


class Scheduled(BaseModel):
    """One recurring run; `change` is created, changed, unchanged, or deleted, and empty in a list."""

    recurring_run_id: str
    name: str
    pipeline: str
    cron: str
    enabled: bool
    change: str
    link: str


def schedule(
    request: Request, cron: str, settings: Settings, server: KfpServer, build: Build = AS_COMPILED
) -> Scheduled:
    """Let the pipeline run at these times, in its newest version, one run at a time, and without catching up.

    KFP cannot change a recurring run: the new one is made before those of the same name go, so that whatever fails in
    between leaves one that runs. UsageError for a wrong cron expression; TokkaError when Kubeflow refuses.
    """
    cron = checked_cron(cron)
    require_reachable(request.params, settings)
    upload = upload_pipeline(request.pipeline, settings, server, build)
    arguments, account = (
        remote_arguments(request, ir.parameters(upload.document), settings),
        service_account(settings.root),
    )
    present = _named(server, f"{PREFIX}{request.pipeline}")
    kept = next((one for one in present if is_as_wanted(one, cron, arguments, upload.pipeline_id, account)), None)
    made = kept or _create(server, request.pipeline, cron, arguments, upload.pipeline_id, account)
    for one in present:
        if one.recurring_run_id != made.recurring_run_id:
            _delete(server, one)
    return _shown(made, server, "unchanged" if kept else "changed" if present else "created")


def listed(server: KfpServer) -> list[Scheduled]:
    """Every recurring run that Tokka made, newest first."""
    listing = server.service("RecurringRun").recurring_run_service_list_recurring_runs
    options = {"sort_by": "created_at desc", **server.namespace}
    found = server.pages("list the schedules", listing, "recurring_runs", **options)
    return [_shown(one, server, "") for one in found if str(one.display_name).startswith(PREFIX)]


def unschedule(pipeline: str, server: KfpServer) -> list[Scheduled]:
    """Delete the pipeline's recurring runs; none is no error, as the same command may be given again."""
    present = _named(server, f"{PREFIX}{pipeline}")
    for one in present:
        _delete(server, one)
    return [_shown(one, server, "deleted") for one in present]


def checked_cron(cron: str) -> str:
    """The expression with single blanks; UsageError when it is not one of six fields that KFP's scheduler reads."""
    fields = cron.split()
    if len(fields) != len(FIELDS):
        raise UsageError(f"--cron {cron!r} has {len(fields)} fields", EXAMPLE)
    for field, (name, low, high) in zip(fields, FIELDS, strict=True):
        if not all(_is_range(part, low, high, NAMES.get(name, [])) for part in field.lower().split(",")):
            raise UsageError(f"--cron {cron!r}: {field!r} is no {name} from {low} to {high}", EXAMPLE)
    return " ".join(fields)


def _is_range(part: str, low: int, high: int, names: list[str]) -> bool:
    """Whether a part is `*`, `?`, a value or a range, with an optional step, as robfig/cron takes it."""
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return False
    if span in {"*", "?"}:
        return True
    numbers = [_number(text, low, names) for text in span.split("-")]
    return len(numbers) <= 2 and all(low <= one <= high for one in numbers) and numbers == sorted(numbers)


def _number(text: str, low: int, names: list[str]) -> int:
    if text in names:
        return names.index(text) + low
    return int(text) if re.fullmatch(r"\d{1,2}", text) else -1


def is_as_wanted(found: Foreign, cron: str, arguments: Tree, pipeline_id: str, account: str) -> bool:
    """Whether a recurring run is the one that would be made."""
    source, trigger = found.pipeline_version_reference, found.trigger
    return (
        bool(trigger and trigger.cron_schedule and trigger.cron_schedule.cron == cron)
        and bool(source and source.pipeline_id == pipeline_id and not source.pipeline_version_id)
        and ((found.runtime_config and found.runtime_config.parameters) or {}) == arguments
        and account in ("", found.service_account)
        and (found.max_concurrency, bool(found.no_catchup), found.status) == ("1", True, "ENABLED")
    )


def _named(server: KfpServer, name: str) -> list[Foreign]:
    """The recurring runs of this name."""
    listing = server.service("RecurringRun").recurring_run_service_list_recurring_runs
    options = {"filter": equals("display_name", name), **server.namespace}
    return list(server.pages("look for the schedule", listing, "recurring_runs", **options))


def _create(server: KfpServer, pipeline: str, cron: str, arguments: Tree, pipeline_id: str, account: str) -> Foreign:
    """Make the recurring run, without a version: each run takes the newest one.

    Its namespace is that of the experiment; named, KFP for a single user refuses it.
    """
    wanted = server.make(
        "RecurringRun",
        display_name=f"{PREFIX}{pipeline}",
        description="made by tokka schedule",
        experiment_id=experiment_id(server),
        pipeline_version_reference=server.make("PipelineVersionReference", pipeline_id=pipeline_id),
        runtime_config=server.make("RuntimeConfig", parameters=arguments),
        trigger=server.make("Trigger", cron_schedule=server.make("CronSchedule", cron=cron)),
        mode="ENABLE",
        max_concurrency="1",
        no_catchup=True,
        service_account=account or None,
    )
    create = server.service("RecurringRun").recurring_run_service_create_recurring_run
    return server.call(f"schedule {pipeline}", create, wanted)


def _delete(server: KfpServer, one: Foreign) -> None:
    delete = server.service("RecurringRun").recurring_run_service_delete_recurring_run
    server.call(f"delete the schedule {one.display_name}", delete, one.recurring_run_id)


def _shown(one: Foreign, server: KfpServer, change: str) -> Scheduled:
    schedule = one.trigger.cron_schedule if one.trigger else None
    return Scheduled(
        recurring_run_id=one.recurring_run_id,
        name=one.display_name,
        pipeline=str(one.display_name).removeprefix(PREFIX),
        cron=(schedule.cron if schedule else "") or "",
        enabled=one.status == "ENABLED",
        change=change,
        link=server.link(f"recurringrun/details/{one.recurring_run_id}"),
    )
