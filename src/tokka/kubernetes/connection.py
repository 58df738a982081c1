"""The connection to the Kubernetes API: the only module with its client. Errors in our words."""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tokka.errors import TokkaError
from tokka.kubernetes.api import Conflict, Denied, Invalid, Kind, NoAnswer, Object

# Seconds to connect and to read.
TIMEOUT = (5, 20)
# Where every pod with a token finds its own namespace.
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MERGE = "application/merge-patch+json"
SHOWN = 600

# The generated client ships no types.
Foreign = Any


class Connection:
    """The API of the cluster that this pod runs in, else of the one that KUBECONFIG names; objects of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """As `Api.get`."""
        return self._ask("GET", self._path(kind, name, namespace))

    def list(self, kind: Kind, labels: Mapping[str, str]) -> list[Object]:
        """As `Api.list`."""
        selector = urlencode({"labelSelector": ",".join(f"{name}={value}" for name, value in labels.items())})
        found: list[Object] = (self._ask("GET", f"{self._path(kind)}?{selector}") or {}).get("items", [])
        return found

    def create(self, kind: Kind, body: Object) -> Object:
        """As `Api.create`."""
        return self._ask("POST", self._path(kind), body) or {}

    def patch(self, kind: Kind, name: str, body: Object) -> Object:
        """As `Api.patch`."""
        found = self._ask("PATCH", self._path(kind, name), body)
        if found is None:
            raise Conflict(f"{kind.plural} {name} is gone", "it is made again")
        return found

    def delete(self, kind: Kind, name: str, version: str) -> None:
        """As `Api.delete`."""
        self._ask("DELETE", self._path(kind, name), {"preconditions": {"resourceVersion": version}})

    def groups(self) -> set[str]:
        """As `Api.groups`."""
        return {one["name"] for one in (self._ask("GET", "/apis") or {}).get("groups", ())}

    @functools.cached_property
    def _client(self) -> Foreign:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            try:
                config.load_kube_config()
            except config.ConfigException as error:
                raise TokkaError(f"no cluster is named: {error}", "set KUBECONFIG, or run in a pod") from None
        return client.ApiClient()

    def _path(self, kind: Kind, name: str = "", namespace: str = "") -> str:
        base = f"/{'apis' if '/' in kind.version else 'api'}/{kind.version}"
        scope = f"/namespaces/{namespace or self.namespace}" if kind.is_namespaced else ""
        return f"{base}{scope}/{kind.plural}{f'/{name}' if name else ''}"

    def _ask(self, method: str, path: str, body: Object | None = None) -> Object | None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Content-Type": MERGE if method == "PATCH" else "application/json", "Accept": "application/json"}
        try:
            answer = self._client.call_api(
                path, method, header_params=headers, body=body, auth_settings=["BearerToken"], _preload_content=False,
                _return_http_data_only=True, _request_timeout=TIMEOUT,
            )  # fmt: skip
            found: Object = json.loads(answer.data)
        except ApiException as error:
            if error.status == 404:
                return None
            raise _refusal(f"{method} {path}", int(error.status or 0), _words(error)) from None
        except (HTTPError, OSError, ValueError) as error:
            raise NoAnswer(f"the Kubernetes API did not answer {method} {path}: {error}", "it is asked again") from None
        return found


def own_namespace() -> str:
    """TOKKA_NAMESPACE, else that of this pod; TokkaError outside of one."""
    try:
        return os.environ.get("TOKKA_NAMESPACE") or NAMESPACE.read_text().strip()
    except OSError:
        raise TokkaError("no namespace is named, and this is no pod with a token", "set TOKKA_NAMESPACE") from None


def _refusal(asked: str, status: int, words: str) -> TokkaError:
    """What a status means."""
    said = f"{asked}: {status} {words}"
    if status == 409:
        return Conflict(said, "somebody changed it meanwhile; it is read again")
    # A webhook's refusal is a 403 as well.
    if status in (401, 403) and "denied the request" not in words:
        return Denied(said, "give the service account the rights that infra/kubernetes gives it")
    if 400 <= status < 500 and status not in (408, 429):
        return Invalid(f"the cluster refused it: {said}", "see what its admission says")
    return NoAnswer(said, "it is asked again")


def _words(error: Foreign) -> str:
    try:
        return str(json.loads(error.body)["message"])[:SHOWN]
    except (ValueError, KeyError, TypeError):
        return str(error.reason or error.body)[:SHOWN]
