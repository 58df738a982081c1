"""What reaches a user."""

import pickle

from tokka.errors import Refused, TokkaError


def test_no_message_shows_the_password_of_a_uri() -> None:
    error = TokkaError("s3 at https://me:secret@store:9000 is away", "look at postgresql://tokka:p%40ss@db/tokka")
    assert (error.message, error.hint) == (
        "s3 at https://me:***@store:9000 is away",
        "look at postgresql://tokka:***@db/tokka",
    )
    assert "secret" not in str(error)


def test_an_error_crosses_a_process_whole() -> None:
    found = pickle.loads(pickle.dumps(Refused("the gate said no", "see the report")))
    assert (type(found), found.message, found.hint) == (Refused, "the gate said no", "see the report")
