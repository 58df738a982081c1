"""The admin port of a running stack."""

import socket

import httpx

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import LOCAL
from tokka.gateway.api_keys import own_headers
from tokka.gateway.replay import replay


def get(world, path, **headers):
    return httpx.get(f"{world.info().admin}{path}", headers=headers, **LOCAL)


def test_the_page_shows_who_serves_and_how(world):
    assert world.info().admin == f"http://127.0.0.1:{world.settings.port + 2}"
    page = get(world, "/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    world.challenge("2", 0.25)
    replay(
        [{"text": f"card {number}", "target": "card"} for number in range(200)],
        world.url,
        headers=own_headers(world.settings.home),
    )
    world.wait(lambda: {one["version"] for one in get(world, "/status.json").json()["traffic"]} == {"1", "2"})
    found = get(world, "/status.json").json()
    assert [(one["role"], one["version"], one["ready"]) for one in found["revisions"]] == [
        ("champion", "1", 2), ("challenger", "2", 2),
    ]  # fmt: skip
    assert found["split"]["wanted"] == found["split"]["in_force"] == 0.25
    assert found["split"]["requests"] == 200
    assert abs(found["split"]["seen"] - 0.25) < 0.1
    assert all(one["p99_ms"] >= one["p50_ms"] > 0 for one in found["traffic"])
    assert found["judge"] is None
    world.retire()


def test_prometheus_reads_versions_routes_and_statuses(world):
    world.ask()
    httpx.post(f"{world.url}/predict", content=b"{", **LOCAL)

    def counted(version, route, status):
        line = f'tokka_requests_total{{route="{route}",status="{status}",version="{version}"}}'
        return line in get(world, "/metrics").text

    world.wait(lambda: counted("1", "predict", 200))
    answer = get(world, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'tokka_workers_ready{role="champion",version="1"} 2.0' in answer.text
    assert 'route="predict",status="400"' in answer.text


def test_what_is_not_there_or_not_for_this_name_is_refused(world):
    assert get(world, "/reports/../keys/signing.key").status_code == 404
    assert get(world, "/rollback").status_code == 404
    assert get(world, "/status.json", host="evil.example").status_code == 403


def test_a_taken_admin_port_costs_the_page_and_nothing_else(make_world):
    world = make_world(workers=1)
    with socket.socket() as holder:
        port = free_port()
        world.settings = world.settings.model_copy(update={"admin_port": port})
        holder.bind(("127.0.0.1", port))
        holder.listen()
        world.install("1")
        info = world.up()
    assert info.admin == ""
    assert str(port) in info.admin_problem and "TOKKA_ADMIN_PORT" in info.admin_problem
    assert world.ask().status_code == 200
