"""The estimate of energy: of the country, bounded in work, and never a reason to fail."""

from tokka.evaluation.metrics import energy
from tokka.evaluation.metrics.energy import estimate


def test_energy_is_estimated_for_the_country_and_nothing_is_printed(capfd):
    found = estimate(lambda number: sum(range(20_000)), "DEU")
    assert found.reason == ""
    assert found.wh > 0
    # Germany's mix has stood between 200 and 600 grams a kilowatt-hour for a decade.
    assert 0.2 < found.g_co2 / found.wh < 0.6
    assert capfd.readouterr() == ("", "")


def test_work_is_bounded_and_a_slow_model_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(energy, "SECONDS", 0.0)
    estimate(asked.append, "FRA")
    assert asked == [0]


def test_a_failing_estimate_fails_nothing():
    def broken(number):
        raise OSError("no sensor")

    assert estimate(broken, "DEU").reason == "OSError: no sensor"
    assert estimate(lambda number: None, "").reason == "not asked for"
    assert estimate(lambda number: None, "XXX").wh is None
