"""tokka keys: who may ask the endpoint."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tokka.cli.console import Call, command

if TYPE_CHECKING:
    from tokka.gateway.api_keys import Key

app = typer.Typer(no_args_is_help=True, help="API keys of the endpoint: create, list, revoke.")


@command(app, without=("params", "overrides"))
def create(
    call: Call,
    name: Annotated[str, typer.Argument(help="Who will use it, for people who read the list.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, feedback or admin; may be repeated. Default: predict, feedback.")
    ] = None,
    days: Annotated[float, typer.Option(help="Until it expires; 0 for never.")] = 90.0,
) -> None:
    """Make a key and show its secret, this once: only a digest of it is kept.

    Clients send it as `X-API-Key: SECRET` or `Authorization: Bearer SECRET`, over REST and gRPC.

    Example: `tokka keys create crm --scope predict --days 30`
    """
    from tokka.gateway.api_keys import KeyStore

    secret, key = KeyStore(call.settings.home).create(name, scope or ["predict", "feedback"], days=days)
    made = f"key {key.id} for {key.name}: {', '.join(key.scopes)}; expires {_moment(key.expires)}"
    told = {"id": key.id, "secret": secret, "scopes": key.scopes, "expires": key.expires}
    call.conclude(told, made, *([] if call.as_json else ["The secret is shown this once:"]))
    if not call.as_json:
        print(secret)


@command(app, "list", without=("params", "overrides"))
def list_keys(call: Call) -> None:
    """Every key: id, name, scopes, expiry, state; never a secret.

    Example: `tokka keys list`
    """
    from tokka.cli.tables import table
    from tokka.gateway.api_keys import KeyStore

    found = KeyStore(call.settings.home).list()
    shown, rows = table("id", "name", "scopes", "created", "expires", "state"), [_row(key) for key in found]
    for row in rows:
        shown.add_row(*row.values())
    call.conclude({"keys": rows}, shown if rows else "no keys: `tokka keys create NAME` makes one")


@command(app, without=("params", "overrides"))
def revoke(
    call: Call, name: Annotated[str, typer.Argument(metavar="ID", help="As `tokka keys list` shows it.")]
) -> None:
    """Refuse a key from the next request on.

    Example: `tokka keys revoke 3f9c01ab`
    """
    from tokka.gateway.api_keys import KeyStore
    from tokka.gateway.gateway import forget_grants

    key = KeyStore(call.settings.home).revoke(name)
    forget_grants(call.settings.home / "stack")
    call.conclude({"revoked": key.id}, f"key {key.id} ({key.name}) is revoked")


def _row(key: "Key") -> dict[str, str]:
    created, expires = _moment(key.created), _moment(key.expires)
    state = key.problem(time.time()).removeprefix("the API key ").removeprefix("was ").removeprefix("has ")
    return {
        "id": key.id, "name": key.name, "scopes": ",".join(key.scopes),
        "created": created, "expires": expires, "state": state or "active",
    }  # fmt: skip


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "never"
