"""Counters, histograms and the last two minutes, from the gateway's records."""

from tokka.gateway.live_traffic import LiveTraffic

NOW = 1_000_000.5


def record(version="1", status=200, latency_ms=8.0, time=NOW - 3, route="predict", canary=False, share=0.0, **more):
    facts = {"version": version, "status": status, "latency_ms": latency_ms, "time": time, "route": route}
    return {"kind": "request", **facts, "canary": canary, "share": share, "stand_in": False, **more}


def test_requests_are_counted_by_version_route_and_status_with_their_latency():
    live = LiveTraffic()
    for entry in (record(), record(latency_ms=70.0), record("2", 503), record("", 404), record(route="feedback")):
        live.observe(entry)
    live.observe(record(stand_in=True))
    text = live.exposition().decode().splitlines()
    assert 'tokka_requests_total{route="predict",status="200",version="1"} 3.0' in text
    assert 'tokka_requests_total{route="predict",status="503",version="2"} 1.0' in text
    assert 'tokka_requests_total{route="predict",status="404",version="none"} 1.0' in text
    assert 'tokka_requests_total{route="feedback",status="200",version="1"} 1.0' in text
    bucket = 'tokka_request_duration_seconds_bucket{le="%s",route="predict",status="200",version="1"} %s'
    assert bucket % ("0.005", "0.0") in text
    assert bucket % ("0.01", "2.0") in text
    assert bucket % ("0.1", "3.0") in text
    assert "tokka_stand_ins_total 1.0" in text


def test_the_last_seconds_of_each_version():
    live = LiveTraffic()
    for number in range(100):
        live.observe(record(latency_ms=float(number), time=NOW - 1 - number % 5))
    live.observe(record("2", status=500, latency_ms=900.0, time=NOW - 2))
    live.observe(record("3", time=NOW - 3600))
    one, two = live.by_version(NOW)
    assert (one["version"], one["per_second"], one["failed"]) == ("1", 10.0, 0)
    assert (one["p50_ms"], one["p99_ms"]) == (50.0, 99.0)
    assert one["rate_series"][-6:] == [0, 20, 20, 20, 20, 20]
    assert one["p99_series"][-6] is None
    assert (two["failed"], two["p99_ms"]) == (1, 900.0)


def test_the_observed_share_counts_only_what_was_split_at_the_wanted_one():
    live = LiveTraffic()
    for number in range(40):
        live.observe(record(canary=number % 4 == 0, share=0.25))
        live.observe(record(canary=True, share=0.5))
    assert live.share_seen(0.25, NOW) == (0.25, 40)
    assert live.share_seen(0.1, NOW) is None
    assert live.share_seen(0.25, NOW + 100) is None
