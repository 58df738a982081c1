"""A Kubeflow Pipelines API server in memory, over real HTTP: the v2beta1 endpoints that Tokka calls.

with FakeKubeflow() as kubeflow:
    server = KfpServer(KubeflowSettings.from_environment({"TOKKA_KFP_HOST": kubeflow.host}))

Every body that comes in and every answer that goes out passes through the models of kfp_server_api: a field that these
do not know, or a value that they do not allow, fails the request as the real server does (400), or the test (500).
"""

import copy
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kfp_server_api as api
import yaml

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = datetime(1, 1, 1, tzinfo=UTC)
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14}
ROUTES: list[tuple[str, re.Pattern[str], str]] = []

# One look at a run: its state, and the state of each step that has begun.
Look = tuple[str, Mapping[str, str]]


def route(method: str, path: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", f"/apis/{path}") + "$")
        ROUTES.append((method, pattern, function.__name__))
        return function

    return register


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


@dataclass
class Fault:
    """What the next requests of a kind are answered with instead; `kind` text/html for a page of a proxy."""

    request: str
    status: int
    body: str
    times: int
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeKubeflow:
    """State and behaviour; `credential` is the header (name, value) without which a request is refused."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._address = address
        self.pipelines: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.recurring: dict[str, Any] = {}
        self.scripts: dict[str, list[Look]] = {}
        self.logs: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.credential: tuple[str, str] | None = None
        self.version = "2.17.0"
        self.multi_user = False
        self.page_size = 100
        # How often Argo has tried each pod.
        self.attempts = 1
        # What a run does of itself: its looks, one for each time that somebody asks.
        self.script: Sequence[Look] = [("RUNNING", {})]
        self._lock, self._clock = threading.RLock(), EPOCH

    def __enter__(self) -> "FakeKubeflow":
        owner = self

        class Handler(_Handler):
            fake = owner

        self._http = ThreadingHTTPServer(self._address, Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def fail(self, request: str, status: int, said: str = "", times: int = 1_000, body: str = "", **more: Any) -> None:
        """Answer requests whose `METHOD path` matches with this error of KFP's, or with another body."""
        answer = body or json.dumps({"error": said, "code": CODES.get(status, 13), "message": said, "details": []})
        self.faults.append(Fault(request, status, answer, times, **more))

    def count(self, request: str) -> int:
        """How many requests matched."""
        return sum(bool(re.match(request, f"{method} {path}")) for method, path in self.requests)

    def write_log(self, run_id: str, step: str, text: str, attempt: int = 0) -> None:
        """What a step's pod has written; `step` with its groups, as condition-1.gate."""
        workflow = self._workflow(run_id)
        pod = f"{'(0).'.join([workflow, 'root', *step.split('.')])}(0).executor({attempt})"
        self.logs[f"{workflow}-system-container-impl-{fnv(pod)}"] = text

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Any) -> tuple[int, Any]:
        """Status and answer of one request."""
        with self._lock:
            self.requests.append((method, path))
            if self.credential and headers.get(self.credential[0]) != self.credential[1]:
                raise Refusal(401, "Request header error: there is no user identity header.")
            for wanted, pattern, name in ROUTES:
                match = pattern.fullmatch(path)
                if match and wanted == method:
                    call = getattr(self, name)
                    arguments: dict[str, Any] = {**match.groupdict(), "query": query, "body": body, "headers": headers}
                    return 200, call(**arguments)
        raise Refusal(404, "Not Found")

    @route("GET", "v2beta1/healthz")
    def healthz(self, **_: Any) -> Any:
        return {"commit_sha": "0", "tag_name": self.version, "multi_user": self.multi_user}

    @route("GET", "v2beta1/pipelines")
    def list_pipelines(self, query: Mapping[str, str], **_: Any) -> Any:
        return self._page(self.pipelines, query, "pipelines", api.V2beta1ListPipelinesResponse)

    @route("POST", "v2beta1/pipelines")
    def create_pipeline(self, body: bytes, **_: Any) -> Any:
        made = parse(body, "V2beta1Pipeline")
        if any(one.name == made.name for one in self.pipelines.values()):
            raise Refusal(409, f"Failed to create a new pipeline. The name {made.name} already exists.")
        made.pipeline_id, made.created_at = str(uuid.uuid4()), self._now()
        self.pipelines[made.pipeline_id] = made
        return made

    @route("GET", "v2beta1/pipelines/{pipeline_id}/versions")
    def list_versions(self, pipeline_id: str, query: Mapping[str, str], **_: Any) -> Any:
        own = {key: one for key, one in self.versions.items() if one.pipeline_id == pipeline_id}
        return self._page(own, query, "pipeline_versions", api.V2beta1ListPipelineVersionsResponse)

    @route("GET", "v2beta1/pipelines/{pipeline_id}/versions/{version_id}")
    def get_version(self, version_id: str, **_: Any) -> Any:
        return found(self.versions, version_id, "PipelineVersion")

    @route("POST", "v2beta1/pipelines/upload")
    def upload_pipeline(self, query: Mapping[str, str], body: bytes, headers: Any, **_: Any) -> Any:
        if any(one.name == query["name"] for one in self.pipelines.values()):
            raise Refusal(409, "Failed to create a pipeline and a pipeline version")
        made = api.V2beta1Pipeline(name=query["name"], display_name=query["name"], created_at=self._now())
        made.pipeline_id = str(uuid.uuid4())
        self.pipelines[made.pipeline_id] = made
        self.upload_version({**query, "pipelineid": made.pipeline_id}, body, headers)
        return made

    @route("POST", "v2beta1/pipelines/upload_version")
    def upload_version(self, query: Mapping[str, str], body: bytes, headers: Any, **_: Any) -> Any:
        pipeline_id, name = query["pipelineid"], query["name"]
        found(self.pipelines, pipeline_id, "Pipeline")
        if any((one.pipeline_id, one.name) == (pipeline_id, name) for one in self.versions.values()):
            raise Refusal(409, "Failed to create a pipeline version")
        spec, *platform = yaml.safe_load_all(uploaded(body, headers))
        made = api.V2beta1PipelineVersion(
            pipeline_id=pipeline_id,
            pipeline_version_id=str(uuid.uuid4()),
            name=name,
            display_name=name,
            description=query.get("description"),
            created_at=self._now(),
            pipeline_spec={"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec,
        )
        self.versions[made.pipeline_version_id] = made
        return made

    @route("GET", "v2beta1/experiments")
    def list_experiments(self, query: Mapping[str, str], **_: Any) -> Any:
        return self._page(self.experiments, query, "experiments", api.V2beta1ListExperimentsResponse)

    @route("POST", "v2beta1/experiments")
    def create_experiment(self, body: bytes, **_: Any) -> Any:
        made = parse(body, "V2beta1Experiment")
        self._require_namespace(made.namespace)
        if any(one.display_name == made.display_name for one in self.experiments.values()):
            raise Refusal(409, f"Failed to create a new experiment. The name {made.display_name} already exists.")
        made.experiment_id, made.created_at = str(uuid.uuid4()), self._now()
        self.experiments[made.experiment_id] = made
        return made

    @route("GET", "v2beta1/runs")
    def list_runs(self, query: Mapping[str, str], **_: Any) -> Any:
        if "experiment_id" not in query:
            self._require_namespace(query.get("namespace"))
        own = {key: self._looked_at(one, 0) for key, one in self.runs.items()}
        wanted = query.get("experiment_id")
        own = {key: one for key, one in own.items() if wanted in (None, one.experiment_id)}
        return self._page(own, query, "runs", api.V2beta1ListRunsResponse)

    @route("POST", "v2beta1/runs")
    def create_run(self, body: bytes, **_: Any) -> Any:
        made = parse(body, "V2beta1Run")
        version = found(self.versions, made.pipeline_version_reference.pipeline_version_id, "PipelineVersion")
        check_parameters(made.runtime_config.parameters or {}, version.pipeline_spec)
        made.run_id, made.created_at, made.state = str(uuid.uuid4()), self._now(), "PENDING"
        self.runs[made.run_id], self.scripts[made.run_id] = made, list(self.script)
        return made

    @route("GET", "v2beta1/runs/{run_id}")
    def get_run(self, run_id: str, **_: Any) -> Any:
        return self._looked_at(found(self.runs, run_id, "Run"), 1)

    @route("POST", "v2beta1/runs/{run_id}:terminate")
    def terminate_run(self, run_id: str, **_: Any) -> Any:
        found(self.runs, run_id, "Run")
        self.scripts[run_id] = [("CANCELED", {})]
        return {}

    @route("GET", "v2beta1/recurringruns")
    def list_recurring(self, query: Mapping[str, str], **_: Any) -> Any:
        return self._page(self.recurring, query, "recurring_runs", api.V2beta1ListRecurringRunsResponse)

    @route("POST", "v2beta1/recurringruns")
    def create_recurring(self, body: bytes, **_: Any) -> Any:
        made = parse(body, "V2beta1RecurringRun")
        if made.namespace and not self.multi_user:
            raise Refusal(400, f"Experiment {made.experiment_id} belongs to namespace '' instead of '{made.namespace}'")
        if made.max_concurrency is None or not 1 <= int(made.max_concurrency) <= 10:
            raise Refusal(400, "Max concurrency of a recurring run must be at least 1 and at most 10.")
        pipeline_id = made.pipeline_version_reference.pipeline_id
        newest = max((one for one in self.versions.values() if one.pipeline_id == pipeline_id), key=created)
        check_parameters(made.runtime_config.parameters or {}, newest.pipeline_spec)
        made.recurring_run_id, made.created_at = str(uuid.uuid4()), self._now()
        made.status = "ENABLED" if made.mode == "ENABLE" else "DISABLED"
        self.recurring[made.recurring_run_id] = made
        return made

    @route("GET", "v2beta1/recurringruns/{recurring_run_id}")
    def get_recurring(self, recurring_run_id: str, **_: Any) -> Any:
        return found(self.recurring, recurring_run_id, "RecurringRun")

    @route("DELETE", "v2beta1/recurringruns/{recurring_run_id}")
    def delete_recurring(self, recurring_run_id: str, **_: Any) -> Any:
        found(self.recurring, recurring_run_id, "RecurringRun")
        del self.recurring[recurring_run_id]
        return {}

    @route("GET", "v1alpha1/runs/{run_id}/nodes/{node_id}/log")
    def read_log(self, run_id: str, node_id: str, **_: Any) -> Any:
        found(self.runs, run_id, "Run")
        missing = json.dumps({"error_message": f"Failed to read logs for run {run_id}", "error_details": "not found"})
        return self.logs.get(node_id, missing)

    def _now(self) -> datetime:
        self._clock += timedelta(seconds=1)
        return self._clock

    def _workflow(self, run_id: str) -> str:
        return f"tokka-{run_id[:5]}"

    def _require_namespace(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise Refusal(400, "Invalid input error: a run cannot have an empty namespace in multi-user mode")

    def _looked_at(self, run: Any, step: int) -> Any:
        """The run as it stands; each look by its id moves it on by one."""
        looks, seen = self.scripts[run.run_id], copy.copy(run)
        seen.state, states = looks[0]
        if step and len(looks) > 1:
            del looks[0]
        seen.run_details = api.V2beta1RunDetails(task_details=self._details(run.run_id, states))
        return seen

    def _details(self, run_id: str, states: Mapping[str, str]) -> list[Any]:
        """Argo's nodes as KFP reports them, in no order; by default Argo tries each again, in a node of its own."""
        workflow = self._workflow(run_id)
        nodes: list[Any] = []

        def add(name: str, state: str, second: int, *children: str, attempts: int = 1) -> str:
            """A node and its attempts; the last of these holds the children. Their ids are hashes of their names."""
            last = f"{name}({attempts - 1})"
            tried = {f"{name}({number})": ("FAILED", ()) for number in range(attempts)} | {last: (state, children)}
            for one, (its_state, below) in {name: (state, tuple(tried)), **tried}.items():
                began = EPOCH + timedelta(seconds=second)
                ids = [f"{workflow}-{fnv(child)}" for child in below]
                nodes.append(
                    api.V2beta1PipelineTaskDetail(
                        run_id=run_id,
                        task_id=str(uuid.uuid4()),
                        display_name=one.rpartition(".")[2],
                        create_time=EPOCH,
                        start_time=began,
                        end_time=NEVER if its_state == "RUNNING" else began + timedelta(seconds=10),
                        state=its_state,
                        child_tasks=[api.PipelineTaskDetailChildTask(pod_name=one) for one in ids] or None,
                    )
                )
            return name

        # An execution that no node stands for, as KFP lists those of steps that may be retried.
        nodes.append(api.V2beta1PipelineTaskDetail(task_id="f0", run_id=run_id, start_time=EPOCH, end_time=EPOCH))
        root = f"{workflow}(0).root(0)"
        groups, tops = dict[str, list[str]](), list[str]()
        for number, (path, state) in enumerate(states.items()):
            second, (*above, key) = 20 * (number + 1), path.split(".")
            parent = "".join(f".{group}(0)" for group in above)
            pod = add(f"{root}{parent}.{key}(0).executor", state, second + 10, attempts=self.attempts)
            step = add(f"{root}{parent}.{key}", state, second + 10, pod)
            driver = add(f"{root}{parent}.{key}-driver", "SUCCEEDED", second, step)
            groups.setdefault(f"{root}.{above[0]}", []).append(driver) if above else tops.append(driver)
        tops += [add(group, "RUNNING", 0, *inner) for group, inner in groups.items()]
        add(f"{workflow}(0).root-driver", "SUCCEEDED", 0, add(f"{workflow}(0).root", "RUNNING", 0, *tops))
        add(workflow, "RUNNING", 0, f"{workflow}(0).root-driver")
        return sorted(nodes, key=lambda one: one.task_id)

    def _page(self, items: Mapping[str, Any], query: Mapping[str, str], name: str, model: Any) -> Any:
        """One page of what the filter leaves, in the order asked for."""
        kept = [one for one in items.values() if holds(one, query.get("filter"))]
        key, _, order = query.get("sort_by", "created_at").partition(" ")
        kept.sort(key=lambda one: getattr(one, key), reverse=order == "desc")
        begin, size = int(query.get("page_token") or 0), min(int(query.get("page_size", 10)), self.page_size)
        token = str(begin + size) if begin + size < len(kept) else None
        return model(**{name: kept[begin : begin + size] or None, "total_size": len(kept), "next_page_token": token})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeKubeflow

    def respond(self) -> None:
        parts, length = urlsplit(self.path), int(self.headers.get("content-length") or 0)
        body, request = self.rfile.read(length), f"{self.command} {parts.path}"
        fault = next((one for one in self.fake.faults if one.times > 0 and re.match(one.request, request)), None)
        if fault:
            fault.times -= 1
            self.fake.requests.append((self.command, parts.path))
            self.send(fault.status, fault.body.encode(), fault.kind, fault.headers)
            return
        try:
            status, answer = self.fake.answer(
                self.command, parts.path, dict(parse_qsl(parts.query)), body, self.headers
            )
        except Refusal as error:
            told = {"error": error.said, "code": CODES[error.status], "message": error.said, "details": []}
            status, answer = error.status, told
        if isinstance(answer, str):
            self.send(status, answer.encode(), "text/plain", {})
        else:
            plain = api.ApiClient().sanitize_for_serialization(answer)
            self.send(status, json.dumps(plain).encode(), "application/json", {})

    def send(self, status: int, content: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = respond  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def parse(body: bytes, model: str) -> Any:
    """A request's body as the model; a field that it does not know is refused, as by grpc-gateway."""

    class Response:
        data = body

    plain, made = json.loads(body), api.ApiClient().deserialize(Response, model)
    if shape(api.ApiClient().sanitize_for_serialization(made)) != shape(plain):
        raise Refusal(400, f"{model} has unknown fields: {plain}")
    return made


def shape(plain: Any) -> Any:
    """The names of its fields, all the way down; a number may come as text."""
    if isinstance(plain, dict):
        return {name: shape(value) for name, value in plain.items()}
    return [shape(value) for value in plain] if isinstance(plain, list) else None


def found(items: Mapping[str, Any], key: str, kind: str) -> Any:
    if key not in items:
        raise Refusal(404, f"{kind} {key} not found")
    return items[key]


def created(item: Any) -> datetime:
    return item.created_at  # type: ignore[no-any-return]


def holds(item: Any, text: str | None) -> bool:
    """Whether a filter, which must be one of the models' own, lets an item through."""
    if not text:
        return True
    for one in parse(text.encode(), "V2beta1Filter").predicates:
        if one.operation != "EQUALS":
            raise Refusal(400, f"the fake knows EQUALS alone, not {one.operation}")
        if getattr(item, one.key) != one.string_value:
            return False
    return True


def check_parameters(given: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """As the server does: what is required must be there, and what is not declared must not."""
    spec = document.get("pipeline_spec", document)
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    required = {name for name, one in declared.items() if "defaultValue" not in one and not one.get("isOptional")}
    if required - set(given) or set(given) - set(declared):
        raise Refusal(400, f"parameters: missing {required - set(given)}, unknown {set(given) - set(declared)}")


def uploaded(body: bytes, headers: Any) -> bytes:
    """The file of a multipart form."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message: EmailMessage = BytesParser(policy=HTTP).parsebytes(head + body)  # type: ignore[assignment]
    part = next(iter(message.iter_parts()))
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def fnv(text: str) -> int:
    """The number by which Argo names a node."""
    value = 2166136261
    for byte in text.encode():
        value = ((value ^ byte) * 16777619) % 2**32
    return value
