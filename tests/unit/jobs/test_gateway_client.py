"""A job's request to the gateway: what is asked, as whom, and how long it waits."""

import asyncio

import httpx
import pytest

from tokka.jobs.consumer import Failed, Refused, Unavailable
from tokka.jobs.gateway_client import (
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    GatewayClient,
    Interface,
    credentials,
    question,
)
from tokka.jobs.messages import Job, decode, encode

SINGLE = Interface(("text",), ("prediction_id", "label", "score"))
JOB = Job(id="a", model="helpdesk", texts=["where is my card?"], shape="text")


def client_of(answer, identify=dict, **more):
    """One whose gateway is a function."""
    made = GatewayClient("http://gateway", identify, **more)
    made._client = httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))
    return made


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("text", {"text": "x", "top_k": 2}),
        ("texts", {"texts": ["x"], "top_k": 2}),
        (
            "infer",
            {
                "id": "a",
                "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}],
                "parameters": {"top_k": 2},
            },
        ),
    ],
)
def test_top_k_is_asked_for_as_the_endpoint_wants_it(shape, body):
    job = decode(encode(Job(id="a", model="m", texts=["x"], shape=shape, top_k=2)))
    assert question(job)[1] == body
    assert job.digest() != Job(id="a", model="m", texts=["x"], shape=shape).digest()


def test_the_consumer_shows_the_key_that_is_there_now(tmp_path, monkeypatch):
    monkeypatch.delenv("TOKKA_KEY", raising=False)
    assert credentials(tmp_path) == {}
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "own.key").write_text("own")
    assert credentials(tmp_path) == {"x-api-key": "own"}
    monkeypatch.setenv("TOKKA_KEY", "given")
    assert credentials(tmp_path) == {"x-api-key": "given"}


def test_a_question_waits_while_nothing_serves_and_fails_when_something_does():
    def ask(serves, status, **headers):
        def answer(request):
            healthy = 200 if serves else 503
            status_now = healthy if request.url.path == "/health" else status
            return httpx.Response(status_now, json={"error": "why"}, headers=headers)

        async def run():
            await client_of(answer, patience_seconds=0.0).ask(JOB)

        asyncio.run(run())

    with pytest.raises(Refused, match="why"):
        ask(True, 422)
    with pytest.raises(Failed, match="503"):
        ask(True, 503)
    # A wrong key, a limit and a full house are no fault of the job's.
    for status in (401, 403, 429):
        with pytest.raises(Unavailable, match=str(status)):
            ask(True, status)
    with pytest.raises(Unavailable, match="503"):
        ask(True, 503, **{"retry-after": "1"})
    # What the gateway asked for ten times in vain is a try: the job may be what kills the workers.
    with pytest.raises(Failed, match="503"):
        ask(True, 503, **{"retry-after": "1", "x-tokka-failed": "502"})
    with pytest.raises(Unavailable):
        ask(False, 503)


def test_a_busy_endpoint_is_asked_again_when_it_says():
    paused, answers = [], [(503, {"retry-after": "4"}), (503, {}), (429, {"retry-after": "900"}), (200, {})]

    def answer(request):
        status, headers = answers[len(paused)]
        return httpx.Response(status, json={"label": "a"}, headers=headers)

    async def pause(seconds):
        paused.append(seconds)

    async def run():
        return await client_of(answer, sleep=pause).ask(JOB)

    assert asyncio.run(run()) == {"label": "a"}
    assert paused == [4.0, PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_what_the_model_takes_is_asked_of_the_gateway_now_and_then():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        if len(asked) == 1:
            return httpx.Response(401, json={"error": "no key"})
        tree = {"inputs": [{"name": "text"}], "outputs": [{"name": name} for name in SINGLE.outputs]}
        return httpx.Response(200, json=tree)

    async def run():
        found = []
        for asker in (client_of(answer), client_of(answer)):
            found += [await asker.interface("m") for _ in range(3)]
        return found

    assert asyncio.run(run()) == [None] * 3 + [SINGLE] * 3
    assert asked == ["/v2/models/m"] * 2


def asked_as(user, *, identity=None):
    """The headers with which a user's job is asked."""
    seen = []

    def answer(request):
        seen.append(request.headers)
        return httpx.Response(200, json={"label": "a"})

    async def run():
        asker = client_of(answer, lambda: identity or {})
        await asker.ask(decode(encode(Job(id="a", model="m", texts=["x"], user=user))))

    asyncio.run(run())
    return dict(seen[0].raw)


@pytest.mark.parametrize("sent", ["jörg".encode("latin-1"), "jörg".encode(), "jà".encode(), b"a\xffb", b"plain user"])
def test_a_user_is_asked_for_with_the_bytes_that_came(sent):
    assert asked_as(sent.decode("latin-1"), identity={"x-api-key": "key"})[b"x-user-id"] == sent


def test_a_user_of_the_queue_alone_is_asked_for_in_utf_8():
    assert asked_as("名前")[b"x-user-id"] == "名前".encode()


@pytest.mark.parametrize("user", ["a\nb: c", "a\0", "a\x7f", " a", "a\t"])
def test_a_user_that_cannot_be_a_header_is_refused_at_once(user):
    with pytest.raises(Refused, match="x-user-id"):
        asked_as(user)
