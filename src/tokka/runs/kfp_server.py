"""The connection to Kubeflow Pipelines' API server: KFP's own generated client, credentials, and errors in words."""

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from tokka.errors import TokkaError
from tokka.settings import KubeflowSettings

# Seconds to connect and to read; an upload or a new workflow takes Kubernetes a few.
TIMEOUT = (5, 60)
PAGE = 100
# gRPC's codes, as KFP's JSON errors carry them.
RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND = 8, 12, 16, 7, 5
ALREADY_EXISTS = 6
STATUS_OF = {
    RESOURCE_EXHAUSTED: 429,
    UNIMPLEMENTED: 501,
    UNAUTHENTICATED: 401,
    PERMISSION_DENIED: 403,
    NOT_FOUND: 404,
    ALREADY_EXISTS: 409,
}
QUOTA = re.compile(r"exceeded quota|ResourceExhausted|RESOURCE_EXHAUSTED|quota", re.IGNORECASE)
SHOWN_CHARACTERS = 400

# The generated client's answers: mypy does not follow its imports.
Foreign = Any


class NoAnswer(TokkaError):
    """The server does not answer, or answers that it cannot just now: asking again may help."""


class Exists(TokkaError):
    """The name is taken already."""


class Missing(TokkaError):
    """It is not there, or not any more."""


class KfpServer:
    """Calls the services of the generated client (`runs`, `pipelines`, …) and says in words what went wrong.

    kfp.Client is not used: it makes no recurring run without a version, prints to standard output, reads a context
    file of the user's home, and asks a server that is down for 25 seconds.
    """

    def __init__(self, settings: KubeflowSettings) -> None:
        self.settings = settings

    @functools.cached_property
    def client(self) -> Foreign:
        """KFP's generated client; a token file is read again for each request, since the kubelet renews it."""
        import kfp_server_api
        import urllib3

        configuration = kfp_server_api.Configuration(host=self.settings.host)
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        # Only what changes nothing is asked again; a connection that was refused changed nothing.
        configuration.retries = urllib3.Retry(
            total=3, backoff_factor=0.2, status_forcelist=(502, 503, 504), raise_on_status=False
        )
        if self.settings.token_file or self.settings.token.get_secret_value():
            configuration.api_key = {"authorization": ""}
            configuration.api_key_prefix = {"authorization": "Bearer"}
            configuration.refresh_api_key_hook = self._refresh
        return kfp_server_api.ApiClient(configuration, cookie=self.settings.cookie.get_secret_value() or None)

    def service(self, name: str) -> Foreign:
        """One service of the API: Run, Pipeline, PipelineUpload, Experiment or RecurringRun."""
        import kfp_server_api

        return getattr(kfp_server_api, f"{name}ServiceApi")(self.client)

    def make(self, model: str, **fields: object) -> Foreign:
        """A request body: V2beta1 and the name of the model, such as Run."""
        import kfp_server_api

        return getattr(kfp_server_api, f"V2beta1{model}")(**fields)

    def call(self, doing: str, method: Callable[..., Foreign], *arguments: object, **options: object) -> Foreign:
        """Call a method of a service; `doing` ends the sentence "could not …".

        NoAnswer when nobody answers or the server is not ready, Exists when a name is taken, Missing for what is not
        there, TokkaError otherwise.
        """
        import kfp_server_api
        import urllib3

        where = self.settings.host
        try:
            answer = method(*arguments, _request_timeout=TIMEOUT, **options)
        except kfp_server_api.ApiException as error:
            raise self._explained(error.status or 0, error.body or error.reason or "", doing) from None
        except urllib3.exceptions.HTTPError as error:
            reason = str(getattr(error, "reason", None) or error)
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                raise self._explained(0, "", doing) from None
            reason = reason.rpartition(": ")[2]
            hint = "check TOKKA_KFP_HOST, and that the server runs or its port is forwarded"
            raise NoAnswer(f"could not {doing}: {where} does not answer ({reason})", hint) from None
        self._require_json(doing)
        return answer

    def pages(self, doing: str, method: Callable[..., Foreign], field: str, **options: object) -> Iterator[Foreign]:
        """Every item of a list, page by page."""
        token = ""
        while True:
            answer = self.call(doing, method, page_size=PAGE, page_token=token, **options)
            yield from getattr(answer, field) or ()
            token = answer.next_page_token or ""
            if not token:
                return

    def text(self, path: str, doing: str) -> str:
        """What a GET of a path without a generated method answers: the logs of a pod."""
        answer = self.call(
            doing,
            self.client.call_api,
            path,
            "GET",
            auth_settings=["Bearer"],
            _preload_content=False,
        )
        return str(answer.data.decode(errors="replace"))

    @property
    def namespace(self) -> dict[str, str]:
        """The option of listings; empty where one user has it all."""
        return {"namespace": self.settings.namespace} if self.settings.namespace else {}

    def version(self) -> str:
        """The server's version, as 2.17.0; empty when it does not say.

        The generated method knows no more of the answer than whether there are several users.
        """
        import kfp_server_api
        import urllib3

        options = {"response_type": "object", "auth_settings": ["Bearer"], "_return_http_data_only": True}
        try:
            found = self.client.call_api("/apis/v2beta1/healthz", "GET", _request_timeout=TIMEOUT, **options)
        except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError):
            return ""
        version = str(found.get("tag_name") or "") if isinstance(found, dict) else ""
        return "" if version == "unknown" else version

    def link(self, path: str) -> str:
        """A page of the UI."""
        return f"{self.settings.ui}/#/{path}"

    def _refresh(self, configuration: Foreign) -> None:
        token = self.settings.token.get_secret_value()
        if self.settings.token_file:
            try:
                token = Path(self.settings.token_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                found = f"TOKKA_KFP_TOKEN_FILE={self.settings.token_file} cannot be read: {error}"
                raise TokkaError(found, "name a file with a token, as Kubernetes mounts one") from None
        configuration.api_key["authorization"] = token

    def _explained(self, status: int, body: str, doing: str) -> TokkaError:
        error = explain(status, body, doing, self.settings.host, self.settings.credential)
        if status in {400, 404, 501}:
            error.hint = skew(self.version(), metadata.version("kfp")) or error.hint
        return error

    def _require_json(self, doing: str) -> None:
        """A login page comes with 200, of which the generated client would make an empty answer."""
        kind = self.client.last_response.getheader("content-type") or ""
        if "html" in kind:
            raise TokkaError(
                f"could not {doing}: {self.settings.host} answers with a web page, a login perhaps",
                "give TOKKA_KFP_TOKEN or TOKKA_KFP_COOKIE; behind Kubeflow's gateway the API is under /pipeline",
            )


def equals(key: str, value: str) -> str:
    """A filter of the v2beta1 API: the items of which this field has this value."""
    import kfp_server_api

    predicate = kfp_server_api.V2beta1Predicate(operation="EQUALS", key=key, string_value=value)
    return json.dumps({"predicates": [kfp_server_api.ApiClient().sanitize_for_serialization(predicate)]})


def explain(status: int, body: str, doing: str, host: str, credential: str) -> TokkaError:
    """The error for an HTTP answer; `doing` names what was tried, `credential` the variable that was sent.

    `status` 0: the connection came to nothing, and `body` says why.
    """
    code, said = parse(body)
    status = 429 if QUOTA.search(said) else STATUS_OF.get(code or 0, status)
    message, hint = _words(status, is_json=code is not None, host=host, credential=credential)
    kind = {404: Missing, 409: Exists, 502: NoAnswer, 503: NoAnswer, 504: NoAnswer}.get(status, TokkaError)
    return kind(f"could not {doing}: {message}" + (f": {said}" if said else ""), hint)


def parse(body: str) -> tuple[int | None, str]:
    """The gRPC code (0 where there is none; None when the body is no error of KFP's) and what it says, in a line."""
    try:
        found = json.loads(body)
        said = found.get("error_message") or found.get("message") or found.get("error") or ""
        code = int(found.get("code") or 0)
    except (ValueError, AttributeError, TypeError):
        # A page of a proxy or of a login says nothing here; plain words do.
        said, code = ("" if "<" in body else body), None
    return code, " ".join(str(said).split())[:SHOWN_CHARACTERS]


def _words(status: int, *, is_json: bool, host: str, credential: str) -> tuple[str, str]:
    """What the status means here, and what to do."""
    sent = f"{credential} was sent" if credential else "no credential was sent"
    give = f"{sent}; give a valid TOKKA_KFP_TOKEN, TOKKA_KFP_TOKEN_FILE or TOKKA_KFP_COOKIE"
    if status == 404 and not is_json:
        return (
            f"{host} answers, and has no API of Kubeflow Pipelines v2 (404)",
            "behind Kubeflow's gateway the API is under /pipeline: TOKKA_KFP_HOST=https://HOST/pipeline",
        )
    words = {
        0: (f"no trusted connection to {host}", "name the file with its certificate authority: SSL_CERT_FILE=ca.pem"),
        400: ("Kubeflow refuses the request (400)", "see what it names; `tokka compile` shows what was sent"),
        401: ("Kubeflow does not know who asks (401)", give),
        403: (
            "Kubeflow knows who asks, and does not allow it (403)",
            f"{sent}; ask for a role in the namespace that TOKKA_KFP_NAMESPACE names",
        ),
        404: ("it is not there (404)", "`tokka status --remote` lists the runs that are"),
        409: ("the name is taken (409)", "look at it in the Kubeflow UI; another name, or delete what has it"),
        429: (
            "a quota or rate limit of the cluster is used up (429)",
            "wait for a run to end, or have the quota raised; the same command may be given again",
        ),
        501: ("this server does not know the call (501)", "use a KFP server of the SDK's version"),
    }
    unwell = (f"Kubeflow's server is not well ({status})", "look at the log of its pod `ml-pipeline`, and try again")
    return words.get(status, unwell)


def skew(server: str, client: str) -> str:
    """A sentence on server and SDK when their minor versions differ; empty when they agree or the server hides its.

    Both as in `2.17.0`.
    """
    found = [re.match(r"v?(\d+)\.(\d+)", version) for version in (server, client)]
    if not all(found) or found[0].groups() == found[1].groups():  # type: ignore[union-attr]  # both matched
        return ""
    return f"the server is KFP {server}, what is sent was compiled by the SDK {client}: use one version for both"
