"""An environment as a test has it: in namespaces of its own, with the images and stores that are at hand."""

import base64
import re
from collections.abc import Callable
from typing import Any

from tests.manifests.objects import Object, containers, of_kind, pods


def moved(objects: list[Object], spaces: dict[str, str]) -> list[Object]:
    """The same objects in other namespaces: `spaces` says which becomes which, in host names and selectors too."""
    host = re.compile(rf"(?<=[a-z0-9]\.)({'|'.join(spaces)})(?=:|\.svc)")
    keys = {"namespace", "kubernetes.io/metadata.name"}

    def move(text: str, key: str) -> str:
        return spaces.get(text, text) if key in keys else host.sub(lambda found: spaces[found[0]], text)

    copies: list[Object] = [_changed(one, move) for one in objects]
    for one in of_kind(copies, "Namespace"):
        one["metadata"]["name"] = spaces[one["metadata"]["name"]]
    return copies


def with_images(objects: list[Object], images: dict[str, str]) -> list[Object]:
    """Other images, by the name that an image has without tag and digest; the steps' too."""

    def change(text: str, key: str) -> str:
        return images.get(re.split("[:@]", text)[0], text) if key in {"image", "value"} else text

    copies: list[Object] = _changed(objects, change)
    for pod in pods(copies):
        for _, one in containers(pod):
            # What was loaded into the node can be pulled from nowhere.
            one["imagePullPolicy"] = "IfNotPresent"
    return copies


def without_volumes(objects: list[Object]) -> list[Object]:
    """Scratch space instead of volumes, for a cluster that has none to give."""
    copies: list[Object] = _changed(objects, lambda text, _: text)
    for one in of_kind(copies, "StatefulSet"):
        claims = one["spec"].pop("volumeClaimTemplates", [])
        scratch = [{"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claims]
        one["spec"]["template"]["spec"].setdefault("volumes", []).extend(scratch)
    return copies


def with_settings(objects: list[Object], settings: dict[str, str], bucket: dict[str, str]) -> list[Object]:
    """ConfigMaps with more settings, and another bucket."""
    old, new = next(iter(bucket.items()))
    copies: list[Object] = _changed(objects, lambda text, _: text.replace(f"s3://{old}/", f"s3://{new}/"))
    for one in of_kind(copies, "ConfigMap"):
        one["data"] |= settings
    return copies


def secret(namespace: str, name: str, **values: str) -> Object:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": values}


def _changed(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """A copy in which every text is what `change` makes of it and of the key that it stands under."""
    match value:
        case {"kind": "Secret", "data": data}:
            plain = {name: change(base64.b64decode(text).decode(), name) for name, text in data.items()}
            rest = {name: inner for name, inner in value.items() if name != "data"}
            return _changed(rest, change) | {"stringData": plain}
        case dict():
            return {name: _changed(inner, change, name) for name, inner in value.items()}
        case list():
            return [_changed(inner, change, key) for inner in value]
        case str():
            return change(value, key)
    return value
