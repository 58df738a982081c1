import csv
from collections import Counter
from pathlib import Path

from tokka.data import reading, sample
from tokka.sections import Data, Task

TASK = Task(time="time", slices=("channel", "product"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_seed_gives_one_file_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        sample.make_sample(tmp_path / name, rows=800, seed=3)
    sample.make_sample(tmp_path / "c.csv", rows=800, seed=4)
    content = [(tmp_path / name).read_bytes() for name in ("a.csv", "b.csv", "c.csv")]
    assert content[0] == content[1] != content[2]


def test_the_sample_is_what_it_says(tmp_path: Path) -> None:
    sample.make_sample(tmp_path / "sample.csv")
    rows = rows_of(tmp_path / "sample.csv")
    counts = Counter(row["label"] for row in rows)
    assert len(rows) == 6000
    assert len(counts) >= 20
    assert min(counts.values()) >= 60
    assert len({row["product"] for row in rows}) == 4
    assert {row["channel"] for row in rows} == set(sample.CHANNELS)
    assert rows == sorted(rows, key=lambda row: row["time"])
    assert len({row["time"][:10] for row in rows}) > 70
    assert len({row["text"] for row in rows}) > 5000
    assert "synthetic" in (tmp_path / "sample.csv.md").read_text()


def test_the_sample_is_read_without_a_bad_row(tmp_path: Path) -> None:
    sample.make_sample(tmp_path / "sample.csv", rows=3000, drift=True)
    found = reading.read(tmp_path / "sample.csv", TASK, Data())
    assert (len(found.rows), found.quarantined) == (3000, [])


def test_later_weeks_drift_on_request(tmp_path: Path) -> None:
    sample.make_sample(tmp_path / "sample.csv", drift=True)
    rows = rows_of(tmp_path / "sample.csv")
    new = [row for row in rows if row["label"] in {"passkey_setup", "assistant_wrong_answer"}]
    border = (sample.START.replace(month=3, day=2)).isoformat()
    assert len(new) > 200
    assert min(row["time"] for row in new) >= border
    assert {row["channel"] for row in rows if row["time"] < border} == set(sample.CHANNELS)


def test_traffic_comes_after_the_sample_and_drifts_as_a_whole() -> None:
    calm, drifted = (sample.make_traffic(400, seed=5, drift=drift) for drift in (False, True))
    assert set(calm[0]) == {"text", "label", "time", "channel"}
    assert calm == sample.make_traffic(400, seed=5, drift=False)
    assert min(row["time"] for row in calm) >= "2026-03-30"
    assert "passkey_setup" not in {row["label"] for row in calm}
    assert Counter(row["label"] for row in drifted)["passkey_setup"] >= 20
    assert any(row["channel"] == "voice" for row in drifted)
