"""How the gateway is exposed: the address that it binds, its ports, and whether it authenticates."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tokka.errors import UsageError
from tokka.sections_serving import Serving
from tokka.settings import Settings

# The name under which the pipeline's own traffic is known to the gateway; no other key can have it.
OWN_CLIENT = "tokka"
ANYBODY = "TOKKA_ALLOW_ANYBODY"


@dataclass(frozen=True)
class Exposure:
    """The gateway's address and ports, and whether it authenticates; `rate_per_second` is of one key, 0 unlimited."""

    grpc_port: int
    host: str = "127.0.0.1"
    authentication: bool = False
    rate_per_second: int = 0

    @classmethod
    def of(cls, settings: Settings, serving: Serving, environment: Mapping[str, str] | None = None) -> "Exposure":
        """From settings and params; raises UsageError as `needs_authentication` does, unless TOKKA_ALLOW_ANYBODY."""
        env = os.environ if environment is None else environment
        authentication = needs_authentication(settings.host, serving.authentication, allowed=env.get(ANYBODY) == "yes")
        return cls(settings.grpc_port, settings.host, authentication, serving.rate_per_second)

    def values(self) -> dict[str, str | int | bool]:
        """The variables of the gateway's configuration."""
        return {**asdict(self), "lua": str(Path(__file__).with_name("authorize.lua"))}


def needs_authentication(host: str, mode: str, *, allowed: bool) -> bool:
    """Whether requests need a credential: by `mode` auto (unless the address is loopback), on or off.

    Raises UsageError when it is off on an address that others can reach, and the operator has not `allowed` anybody.
    """
    if mode != "off":
        return mode == "on" or not is_loopback(host)
    if not is_loopback(host) and not allowed:
        raise UsageError(
            f"serving.authentication: off, and TOKKA_HOST={host} can be reached from a network: anybody could ask",
            f"set serving.authentication: auto; or, if that is what you want, {ANYBODY}=yes",
        )
    return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return ipaddress.ip_address(host).is_loopback


def endpoint(settings: Settings) -> str:
    """The gateway's URL, as this machine reaches it."""
    return f"http://{reachable(settings.host)}:{settings.port}"


def reachable(host: str) -> str:
    """An address at which this machine itself reaches a server bound to `host`."""
    return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
