"""Who may ask: when authentication is on, and what an open door needs."""

import pytest

from tokka.errors import UsageError
from tokka.gateway.exposure import needs_authentication, reachable
from tokka.params import parse_params


@pytest.mark.parametrize(
    ("host", "mode", "on"),
    [
        ("127.0.0.1", "auto", False),
        ("127.0.0.1", "on", True),
        ("127.0.0.1", "off", False),
        ("0.0.0.0", "auto", True),
        ("10.1.2.3", "auto", True),
        ("10.1.2.3", "on", True),
    ],
)
def test_authentication_is_on_as_soon_as_others_can_reach_the_gateway(host, mode, on):
    assert needs_authentication(host, mode, allowed=False) is on


def test_an_open_door_is_refused_unless_it_is_asked_for():
    with pytest.raises(UsageError, match="anybody could ask") as refused:
        needs_authentication("0.0.0.0", "off", allowed=False)
    assert "TOKKA_ALLOW_ANYBODY" in refused.value.hint
    assert needs_authentication("0.0.0.0", "off", allowed=True) is False
    assert (reachable("0.0.0.0"), reachable("10.1.2.3")) == ("127.0.0.1", "10.1.2.3")


def test_a_bare_on_or_off_of_yaml_is_understood():
    assert parse_params({"serving": {"authentication": False}}).serving.authentication == "off"
    assert parse_params({"serving": {"authentication": True}}).serving.authentication == "on"


@pytest.mark.parametrize(
    "jwt",
    [
        {"issuer": "x"},
        {"issuer": "x", "audience": "y", "jwks_url": "http://issuer.example/keys"},
        {"issuer": "x", "audience": "y", "jwks_url": "http://127.0.0.1.evil.example/keys"},
    ],
)
def test_an_issuer_is_whole_and_its_keys_come_over_https(jwt):
    with pytest.raises(UsageError, match="jwt"):
        parse_params({"serving": {"jwt": jwt}})
