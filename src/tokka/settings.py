"""Where things are: folders, URIs and credentials, from the environment and nowhere else.

    settings = Settings.from_environment()
    settings.record_url          # the deployment record

| Variable              | Default                      | What it is                                  |
|-----------------------|------------------------------|---------------------------------------------|
| TOKKA_HOME            | .tokka                       | runtime state on a laptop                   |
| MLFLOW_TRACKING_URI   | SQLite in TOKKA_HOME         | tracking server and model registry          |
| TOKKA_RECORD_URL      | SQLite in TOKKA_HOME         | deployment record (SQLite or PostgreSQL)    |
| TOKKA_JOBS_URL        | the record's, if PostgreSQL; | what became of asynchronous jobs            |
|                       | else SQLite in TOKKA_HOME    | (SQLite or PostgreSQL)                      |
| TOKKA_REMOTE          | a folder in TOKKA_HOME       | DVC remote that receives the data           |
| TOKKA_BROKER          | params.yaml, or none         | URL of the broker of asynchronous jobs      |
| TOKKA_PORT            | 8080                         | gateway port; MLflow's page is at +10       |
| TOKKA_ADMIN_PORT      | TOKKA_PORT + 2               | admin page and /metrics, on loopback        |
| TOKKA_GRPC_PORT       | TOKKA_PORT + 1               | gateway port for gRPC                       |
| TOKKA_HOST            | 127.0.0.1                    | address on which the gateway listens        |
| TOKKA_ROOT            | the current folder           | project root: params.yaml, data/, pipelines/|
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

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
    jobs_url: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables of the table above.

        Raises:
            UsageError: TOKKA_PORT, TOKKA_ADMIN_PORT or TOKKA_GRPC_PORT is no port number, or TOKKA_HOST no address.
        """
        env = os.environ if environment is None else environment
        root = Path(env.get("TOKKA_ROOT") or ".").resolve()
        home = (root / (env.get("TOKKA_HOME") or ".tokka")).resolve()
        port = _port(env.get("TOKKA_PORT") or "8080")
        return cls(
            root=root,
            home=home,
            tracking_uri=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home}/mlflow.db",
            record_url=env.get("TOKKA_RECORD_URL") or f"sqlite:///{home}/record.db",
            remote=env.get("TOKKA_REMOTE") or str(home / "remote"),
            port=port,
            grpc_port=_port(env.get("TOKKA_GRPC_PORT") or str(port + 1), "TOKKA_GRPC_PORT"),
            host=_host(env.get("TOKKA_HOST") or "127.0.0.1"),
            admin_port=_admin_port(env),
            broker=env.get("TOKKA_BROKER") or "",
            jobs_url=_jobs_url(env, home),
        )

    @staticmethod
    def jobs_at(home: Path) -> str:
        """The URL of a home's own file of asynchronous jobs."""
        return f"sqlite:///{home}/jobs.db"

    def environment(self) -> dict[str, str]:
        """The same settings as variables, for a child process, with the telemetry of every library off."""
        return {
            "TOKKA_ROOT": str(self.root),
            "TOKKA_HOME": str(self.home),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "TOKKA_RECORD_URL": self.record_url,
            "TOKKA_REMOTE": self.remote,
            "TOKKA_PORT": str(self.port),
            "TOKKA_ADMIN_PORT": str(self.admin_port),
            "TOKKA_BROKER": self.broker,
            "TOKKA_JOBS_URL": self.jobs_url,
            "TOKKA_GRPC_PORT": str(self.grpc_port),
            "TOKKA_HOST": self.host,
            **QUIET,
        }


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


def _port(text: str, name: str = "TOKKA_PORT", example: int = 8080) -> int:
    if text.isdigit() and 1024 <= int(text) <= 65001:
        return int(text)
    raise UsageError(f"{name}={text!r} is not a port from 1024 to 65000", f"for example: {name}={example}")


def _jobs_url(env: Mapping[str, str], home: Path) -> str:
    """Beside the record where that is shared, since its consumers are on other machines too; else a file at home."""
    record = env.get("TOKKA_RECORD_URL") or "sqlite"
    return env.get("TOKKA_JOBS_URL") or (Settings.jobs_at(home) if record.startswith("sqlite") else record)


def _admin_port(env: Mapping[str, str]) -> int:
    given = env.get("TOKKA_ADMIN_PORT")
    return _port(given, "TOKKA_ADMIN_PORT", 8082) if given else _port(env.get("TOKKA_PORT") or "8080") + 2


def _host(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise UsageError(
            f"TOKKA_HOST={text!r} is not an IPv4 address", "for example: TOKKA_HOST=0.0.0.0 (every interface)"
        ) from None
