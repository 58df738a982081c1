"""A look at the log, segment by segment, sees what a reader of all of it sees."""

from hypothesis import given
from hypothesis import strategies as st

from tokka.monitoring import traffic
from tokka.monitoring.drift.windows import cut, labelled
from tokka.request_log import log, parquet, segments, stream
from tokka.request_log.framing import frame

KNOWN = frozenset(["known"])
ROWS = st.lists(
    st.tuples(st.sampled_from("12"), st.booleans(), st.booleans(), st.sampled_from(["known", "new"]), st.booleans()),
    max_size=60,
)


def write(folder, rows, segments_wanted, sealed):
    """Each row in one of the segments, in turns; feedback on some of them."""
    for number, (version, shadow, replayed, text, answered) in enumerate(rows):
        path = folder / f"20300101-x-{number % segments_wanted}.v1.jsonl"
        facts = {"prediction_id": f"p{number}", "time": float(number)}
        row = {**facts, "kind": "prediction", "version": version, "text": text, "shadow": shadow}
        said = frame({**row, "replayed": True} if replayed else row)
        if answered:
            said += frame({**facts, "kind": "feedback", "label": "card", "time": number + 0.5})
        with path.open("ab") as file:
            file.write(said)
    for number in range(sealed):
        name = f"20300101-x-{number}"
        if segments.open_path(folder, name).exists():
            assert parquet.seal(folder, name)


@given(rows=ROWS, many=st.integers(1, 4), sealed=st.integers(0, 4), version=st.sampled_from(["", "1"]))
def test_it_sees_what_a_reader_of_everything_sees(tmp_path_factory, rows, many, sealed, version):
    folder = tmp_path_factory.mktemp("log")
    write(folder, rows, many, sealed)
    everything = log.read(folder)
    whole, seen = cut(everything, 4, version, KNOWN), traffic.look(folder, version, KNOWN, 4, 2)
    assert seen.cuts.windows == whole.windows[-2:]
    assert seen.cuts.rest == whole.rest
    assert seen.learnable == labelled(everything, KNOWN)
    assert seen.unread == []


def test_only_the_segments_of_the_newest_rows_are_read(tmp_path, monkeypatch):
    read, true = [], parquet.stream
    monkeypatch.setattr(parquet, "stream", lambda path, *rest: read.append(path.name[9:12]) or true(path, *rest))
    for number in range(5):
        rows = [
            {"kind": "prediction", "prediction_id": f"{number}-{one}", "time": number * 100.0 + one, "version": "1"}
            for one in range(10)
        ]
        (tmp_path / f"20300101-s-{number}.v1.jsonl").write_bytes(b"".join(map(frame, rows)))
        parquet.seal(tmp_path, f"20300101-s-{number}")
    seen = traffic.look(tmp_path, "1", frozenset(), 4, 2)
    assert [window.number for window in seen.cuts.windows] == [11, 12]
    assert len(seen.cuts.rest) == 2
    assert read == ["s-4", "s-3"]


def test_a_sealed_segment_that_is_damaged_is_one_damage(tmp_path):
    row = {"kind": "prediction", "prediction_id": "a", "time": 1.0, "version": "1", "text": "where? " * 99}
    (tmp_path / "20300101-x-0.v1.jsonl").write_bytes(frame(row))
    parquet.seal(tmp_path, "20300101-x-0")
    (path,) = tmp_path.glob("*.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 4) + content[4 + len(content) // 4 :])
    (part,) = stream.newest_first(tmp_path)
    assert list(part.records("prediction")) == []
    assert part.lost == 1
