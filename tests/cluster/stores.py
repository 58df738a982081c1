"""A database and a bucket of a test's own on stores outside the cluster."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import boto3
import sqlalchemy

from tests.cluster.moving import secret, with_settings
from tests.manifests.objects import OVERLAYS, Object, build


class Outside(NamedTuple):
    """Where the stores of one test are, and the keys of S3."""

    record_url: str
    mlflow_url: str
    endpoint: str
    bucket: str
    keys: dict[str, str]

    @property
    def objects(self) -> Any:
        """The bucket, as boto3 has it."""
        return _bucket(self.endpoint, self.bucket, self.keys)


@contextmanager
def outside_stores(record_url: str, endpoint: str, mark: str) -> Iterator[Outside]:
    """Two new databases on the PostgreSQL of `record_url` and a new bucket at `endpoint`, deleted afterwards."""
    url = sqlalchemy.make_url(record_url).set(drivername="postgresql+psycopg")
    names = [f"tokka_{mark}", f"mlflow_{mark}"]
    urls = [url.set(database=name).render_as_string(hide_password=False) for name in names]
    keys = {name: os.environ.get(name, "test") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    bucket = _bucket(endpoint, f"tokka-{mark}", keys)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for name in names:
                connection.execute(sqlalchemy.text(f'CREATE DATABASE "{name}" ENCODING UTF8 TEMPLATE template0'))
        bucket.create()
        yield Outside(*urls, endpoint, bucket.name, keys)
    finally:
        with engine.connect() as connection:
            for name in names:
                connection.execute(sqlalchemy.text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        engine.dispose()
        if bucket.creation_date is not None:
            bucket.objects.all().delete()
            bucket.delete()


def staging(stores: Outside, more: Iterable[Object] = ()) -> list[Object]:
    """The environment `staging` over these stores, with the Secrets that a person provides, and with `more`."""
    objects = with_settings(
        build(OVERLAYS / "staging"), {"AWS_ENDPOINT_URL": stores.endpoint}, {"tokka-staging": stores.bucket}
    )
    provided = [
        secret("tokka", "tokka-mlflow", MLFLOW_BACKEND_STORE_URI=stores.mlflow_url),
        secret("tokka", "tokka-s3", **stores.keys),
        secret("kubeflow", "tokka-s3", **stores.keys),
        secret("kubeflow", "tokka-database", TOKKA_RECORD_URL=stores.record_url),
    ]
    given = {(one["kind"], one["metadata"]["name"]) for one in more if one["metadata"]["namespace"] == "kubeflow"}
    kept = [one for one in provided if one["metadata"]["namespace"] != "kubeflow"
            or (one["kind"], one["metadata"]["name"]) not in given]  # fmt: skip
    return [*kept, *more, *objects]


def _bucket(endpoint: str, name: str, keys: dict[str, str]):
    id_, secret = keys.values()
    resource = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=id_,
        aws_secret_access_key=secret,
    )
    return resource.Bucket(name)
