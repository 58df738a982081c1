"""What a rollout needs of a model registry: registry/mlflow_client.py is one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tokka.registry.entities import VersionInfo


class Registry(Protocol):
    """Versions and aliases of one model. Every method raises TokkaError when the registry does not answer."""

    def version(self, version: str) -> VersionInfo:
        """One version; TokkaError when there is none."""

    def tag_version(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""

    def download_evidence(self, version: str, into: Path) -> None:
        """Copy the evidence of a version's evaluation into a folder."""

    def aliases(self) -> dict[str, str]:
        """Alias to version."""

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version."""

    def delete_alias(self, alias: str) -> None:
        """Remove an alias."""
