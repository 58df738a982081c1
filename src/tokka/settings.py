"""Where things are: folders, URIs and credentials, from the environment and nowhere else.

| Variable              | Default                      | What it is                                  |
|-----------------------|------------------------------|---------------------------------------------|
| TOKKA_HOME            | .tokka                       | runtime state on a laptop                   |
| MLFLOW_TRACKING_URI   | TOKKA_TRACKING_URI, or       | tracking server and model registry; KFP's   |
|                       | SQLite in TOKKA_HOME         | plugin sets the first, pods of ours the 2nd |
| TOKKA_RECORD_URL      | SQLite in TOKKA_HOME         | the record: what serves, runs by key,       |
|                       |                              | attempts, claims (SQLite or PostgreSQL)     |
| TOKKA_JOBS_URL        | the record's, if PostgreSQL; | what became of asynchronous jobs            |
|                       | else SQLite in TOKKA_HOME    | (SQLite or PostgreSQL)                      |
| TOKKA_REMOTE          | a folder in TOKKA_HOME       | DVC remote that receives the data: a folder |
|                       |                              | or s3://bucket/prefix                       |
| TOKKA_ARCHIVE         | a folder in TOKKA_HOME       | sealed request logs and labelled feedback:  |
|                       |                              | a folder or s3://bucket/prefix              |
| TOKKA_SIGNING_KEY     | keys/signing.key in it       | private key that signs models               |
| TOKKA_VERIFY_KEY      | keys/signing.pub in it       | public key that models are checked with     |
| TOKKA_BROKER          | params.yaml, or none         | URL of the broker of asynchronous jobs      |
| TOKKA_NOTIFY_URLS     | TOKKA_NOTIFY_FILE, or        | name=URL of who is told, secrets: read by   |
|                       | notify.urls in TOKKA_HOME    | notifications/addresses.py alone            |
| TOKKA_PORT            | 8080                         | gateway port; MLflow's page is at +10       |
| TOKKA_ADMIN_PORT      | TOKKA_PORT + 2               | admin page and /metrics, on loopback        |
| TOKKA_GRPC_PORT       | TOKKA_PORT + 1               | gateway port for gRPC                       |
| TOKKA_HOST            | 127.0.0.1                    | address on which the gateway listens        |
| TOKKA_REVIEW_URL      | on loopback, for the stack's | where an MLflow elsewhere finds the receiver|
|                       | own MLflow                   | of its webhooks (https)                     |
| TOKKA_ROOT            | the current folder           | project root: params.yaml, data/, pipelines/|
| TOKKA_JOB             | none                         | the run that a step belongs to; _OWNER: the |
|                       |                              | process that started it on this machine     |

Objects in S3 are reached as boto3 is told to (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …, or the service account). In a pod
(KUBERNETES_SERVICE_HOST) TOKKA_HOME is scratch: the record, MLflow, remote and archive have to be named.

Of a Kubeflow Pipelines elsewhere, to which `tokka submit` and its like talk (`KubeflowSettings`):

| Variable              | Default                      | What it is                                  |
|-----------------------|------------------------------|---------------------------------------------|
| TOKKA_KFP_HOST        | none                         | URL of the API server, or of the gateway    |
| TOKKA_KFP_TOKEN       | none                         | bearer token                                |
| TOKKA_KFP_TOKEN_FILE  | none                         | file with the token, read at each request   |
| TOKKA_KFP_COOKIE      | none                         | session cookie, as a browser would send it  |
| TOKKA_KFP_NAMESPACE   | none (single user)           | namespace of the profile (multi-user)       |
| TOKKA_KFP_UI          | TOKKA_KFP_HOST               | base URL of links to the UI                 |
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from tokka.errors import UsageError


class Settings(BaseModel):
    """One frozen answer to every "where"; paths are absolute."""

    model_config = ConfigDict(frozen=True)

    root: Path
    home: Path
    tracking_uri: str
    record_url: str
    remote: str
    port: int
    grpc_port: int
    host: str = "127.0.0.1"
    admin_port: int = 0
    broker: str = ""
    review_url: str = ""
    jobs_url: str = ""
    archive: str = ""
    signing_key: Path = Path()
    verify_key: Path = Path()
    job: str = ""
    job_owner: str = ""
    in_pod: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables of the table above.

        UsageError when TOKKA_HOME holds a character that a tool below cannot name, TOKKA_PORT, TOKKA_ADMIN_PORT or
        TOKKA_GRPC_PORT is no port number, or TOKKA_HOST no address.
        """
        env = os.environ if environment is None else environment
        root = Path(env.get("TOKKA_ROOT") or ".").resolve()
        home = _home((root / (env.get("TOKKA_HOME") or ".tokka")).resolve())
        port, admin = _port(env.get("TOKKA_PORT") or "8080"), env.get("TOKKA_ADMIN_PORT")
        given = {name: env.get(VARIABLES[name]) or "" for name in AS_GIVEN}
        return cls(
            root=root,
            home=home,
            tracking_uri=env.get("MLFLOW_TRACKING_URI")
            or env.get("TOKKA_TRACKING_URI")
            or f"sqlite:///{home}/mlflow.db",
            record_url=env.get("TOKKA_RECORD_URL") or f"sqlite:///{home}/record.db",
            remote=env.get("TOKKA_REMOTE") or str(home / "remote"),
            port=port,
            grpc_port=_port(env.get("TOKKA_GRPC_PORT") or str(port + 1), "TOKKA_GRPC_PORT"),
            host=_host(env.get("TOKKA_HOST") or "127.0.0.1"),
            admin_port=_port(admin, "TOKKA_ADMIN_PORT", 8082) if admin else port + 2,
            jobs_url=_jobs_url(env, home),
            archive=env.get("TOKKA_ARCHIVE") or str(home / "archive"),
            signing_key=root / (env.get("TOKKA_SIGNING_KEY") or home / "keys" / "signing.key"),
            verify_key=root / (env.get("TOKKA_VERIFY_KEY") or home / "keys" / "signing.pub"),
            in_pod=bool(env.get("KUBERNETES_SERVICE_HOST")),
            **given,
        )

    @property
    def has_own_page(self) -> bool:
        """Whether MLflow's page is served by the stack here: only when the tracking store is a SQLite file."""
        return self.tracking_uri.startswith("sqlite:")

    @property
    def page(self) -> str:
        """Where people look at MLflow."""
        return f"http://127.0.0.1:{self.port + PAGE_PORT_OFFSET}" if self.has_own_page else self.tracking_uri

    @staticmethod
    def jobs_at(home: Path) -> str:
        """The URL of a home's own file of asynchronous jobs."""
        return f"sqlite:///{home}/jobs.db"

    def environment(self) -> dict[str, str]:
        """The same settings as variables, for a child process, with the telemetry of every library off."""
        return {variable: str(getattr(self, name)) for name, variable in VARIABLES.items()} | QUIET


class KubeflowSettings(BaseModel):
    """Where Kubeflow Pipelines is and who asks; kept apart from `Settings`, which children of a run are given."""

    model_config = ConfigDict(frozen=True)

    host: str
    token: SecretStr
    token_file: str
    cookie: SecretStr
    namespace: str
    ui: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "KubeflowSettings":
        """Read the TOKKA_KFP_ variables; UsageError when no host is named, or it is no URL, or one credential too many.

        A path belongs to the host where a gateway serves more than KFP: https://kubeflow.example.com/pipeline.
        """
        env = os.environ if environment is None else environment
        read = {name: (env.get(f"TOKKA_KFP_{name.upper()}") or "").strip() for name in cls.model_fields}
        given = [f"TOKKA_KFP_{name.upper()}" for name in ("token", "token_file", "cookie") if read[name]]
        host, example = read["host"].rstrip("/"), "for example: TOKKA_KFP_HOST=http://localhost:8888"
        if not host:
            raise UsageError("no Kubeflow Pipelines is named: TOKKA_KFP_HOST is not set", example)
        if not host.startswith(("http://", "https://")):
            raise UsageError(f"TOKKA_KFP_HOST={host!r} is not a URL with http:// or https://", example)
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} are set, and one credential is sent", f"unset all but {given[0]}")
        return cls.model_validate({**read, "host": host, "ui": (read["ui"] or host).rstrip("/")})

    @property
    def credential(self) -> str:
        """The variable that the credential comes from; empty without one."""
        given = {"TOKEN": self.token.get_secret_value(), "TOKEN_FILE": self.token_file}
        given["COOKIE"] = self.cookie.get_secret_value()
        return next((f"TOKKA_KFP_{name}" for name, value in given.items() if value), "")


PAGE_PORT_OFFSET = 10
VARIABLES = {
    **{name: f"TOKKA_{name.upper()}" for name in Settings.model_fields if name != "in_pod"},
    "tracking_uri": "MLFLOW_TRACKING_URI",
}
UNNAMEABLE = re.compile(r"""[,%?#"'\\$`*\x00-\x1f\x7f]""")
# Without a default, and taken as they are.
AS_GIVEN = ("broker", "review_url", "job", "job_owner")
# Nothing calls home, and no thread pool takes more than the machine has.
QUIET = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LITSERVE_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Waiting threads sleep: spinning ones cost a busy machine eight times the processor time.
    "OMP_WAIT_POLICY": "PASSIVE",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def _home(folder: Path) -> Path:
    """DVC splits an address at commas; SQLite's ends at ? and #, with % for an escape; others quote or end a line."""
    if found := UNNAMEABLE.search(str(folder)):
        raise UsageError(
            f"TOKKA_HOME={str(folder)!r} holds {found[0]!r}, which DVC, SQLite or HAProxy cannot take in a path",
            "name another folder: TOKKA_HOME=~/tokka",
        )
    return folder


def _port(text: str, name: str = "TOKKA_PORT", example: int = 8080) -> int:
    if text.isdigit() and 1024 <= int(text) <= 65001:
        return int(text)
    raise UsageError(f"{name}={text!r} is not a port from 1024 to 65000", f"for example: {name}={example}")


def _jobs_url(env: Mapping[str, str], home: Path) -> str:
    """Beside the record where that is shared, since its consumers are on other machines too; else a file at home."""
    record = env.get("TOKKA_RECORD_URL") or "sqlite"
    return env.get("TOKKA_JOBS_URL") or (Settings.jobs_at(home) if record.startswith("sqlite") else record)


def _host(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise UsageError(
            f"TOKKA_HOST={text!r} is not an IPv4 address", "for example: TOKKA_HOST=0.0.0.0 (every interface)"
        ) from None
