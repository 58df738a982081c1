"""The section `serving` of params.yaml: the endpoint, who may ask it, and jobs over a broker."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tokka.sections import Count, NonNegative, Positive, Section


class Asynchronous(Section):
    """Jobs over a broker: RabbitMQ (amqp://, amqps://) or Kafka (kafka://)."""

    # None: off. A URL with a password belongs into the environment (TOKKA_BROKER), which also wins.
    broker: str | None = None
    concurrent: Annotated[int, Field(ge=1, le=1024)] = 16
    tries: Annotated[int, Field(ge=1, le=15)] = 3
    result_days: Positive = 7.0
    # A job without an answer for so long is failed: its message is lost, or nothing served all the time.
    give_up_hours: Positive = 24.0

    @field_validator("broker")
    @classmethod
    def _holds_no_password(cls, broker: str | None) -> str | None:
        if broker is not None and "@" in broker:
            raise ValueError("broker must hold no user or password here: set TOKKA_BROKER instead")
        return broker


def _word_of_yaml(value: object) -> object:
    """YAML reads a bare on or off as true or false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class Jwt(Section):
    """Bearer tokens of an OAuth2 issuer: RS256 or ES256, with exp, iat, aud and iss; without jwks_url, none."""

    issuer: str | None = None
    audience: str | None = None
    jwks_url: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Jwt":
        if len({self.issuer is None, self.audience is None, self.jwks_url is None}) > 1:
            raise ValueError("issuer, audience and jwks_url go together")
        if self.jwks_url is not None and not re.match(r"https://|http://(127\.0\.0\.1|localhost)[:/]", self.jwks_url):
            raise ValueError("jwks_url must be https (http on 127.0.0.1 alone): whoever alters it decides who may ask")
        return self


class Serving(Section):
    """The endpoint and its limits."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    batch: Annotated[int, Field(ge=1, le=512)] = 16
    max_delay_ms: NonNegative = 2.0
    max_body_bytes: Count = 1_000_000
    max_rows: Count = 256
    max_tokens: Count = 16_384
    max_wait_ms: Count = 20
    asynchronous: Asynchronous = Asynchronous()
    authentication: Annotated[Literal["auto", "on", "off"], BeforeValidator(_word_of_yaml)] = "auto"
    jwt: Jwt = Jwt()
    rate_per_second: Annotated[int, Field(ge=0)] = 0
