"""A page behind a password: who has it is passed on, nobody else, and the file is its owner's alone."""

import asyncio

import httpx
import pytest

from tokka.processes.page_password import USER, Guarded, password_file


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


async def ask(path="/", auth=None, headers=None):
    transport = httpx.ASGITransport(app=Guarded(page, "s3cret"))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return await client.post(path, auth=auth, headers=headers)


@pytest.mark.parametrize("auth", [None, (USER, ""), (USER, "s3cret "), ("eve", "s3cret"), ("", "s3cret")])
def test_without_the_password_nothing_is_passed_on(auth):
    found = asyncio.run(ask(auth=auth))
    assert found.status_code == 401
    assert found.headers["www-authenticate"].startswith("Basic")
    assert "the page" not in found.text and "s3cret" not in found.text


def test_with_it_the_page_answers_and_health_is_open():
    assert asyncio.run(ask(auth=(USER, "s3cret"))).text == "the page"
    assert asyncio.run(ask("/health")).text == "the page"
    for other in ("/health/", "/healthy", "//health"):
        assert asyncio.run(ask(other)).status_code == 401


def test_the_password_is_made_once_and_is_its_owners(tmp_path):
    path = password_file(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) >= 32
    assert password_file(tmp_path).read_text() == path.read_text()
