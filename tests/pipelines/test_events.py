import doctest
import os

import numpy as np
import pytest

import skaudio
from skaudio import windows_to_events, write_audacity_labels, write_raven_table

pd = pytest.importorskip("pandas", reason="needs pandas")


def windows(probabilities, *, name="dog", window=1.0, hop=1.0, **columns):
    """A table of one class."""
    starts = hop * np.arange(len(probabilities))
    return pd.DataFrame({
        **columns, "start": starts, "end": starts + window, "class": name,
        "probability": probabilities,
    })  # fmt: skip


def spans(events):
    """Start and end of every event."""
    return events[["start", "end"]].to_numpy().tolist()


@pytest.fixture
def events():
    """Three events of one recording, one with a difficult name."""
    return pd.DataFrame({
        "start": [0.5, 2.0, 7200.123456], "end": [1.5, 4.0, 7203.0],
        "class": ["dog", "Parus major\t(Kohlmeise)\n", "café 'x' \"y\""],
        "probability": [0.91, 0.5, 1.0],
    })  # fmt: skip


def test_neighbouring_windows_are_one_event_with_the_highest_probability():
    events = windows_to_events(windows([0.1, 0.6, 0.9, 0.5, 0.4, 0.7]))
    assert spans(events) == [[1, 4], [5, 6]]
    assert events["probability"].tolist() == [0.9, 0.7]


def test_overlapping_windows_join_and_classes_do_not():
    dogs = windows([0.9, 0.9, 0.1, 0.1, 0.9], window=1.0, hop=0.5)
    rain = windows([0.1, 0.9, 0.9, 0.1, 0.1], window=1.0, hop=0.5, name="rain")
    events = windows_to_events(pd.concat([rain, dogs]))
    assert events["class"].tolist() == ["dog", "rain", "dog"]
    assert spans(events) == [[0, 1.5], [0.5, 2.0], [2.0, 3.0]]


def test_a_short_window_inside_a_long_one_does_not_end_the_event():
    """Tables of two window lengths: the long window reaches beyond the short one after it."""
    short, long = windows([0.6, 0.1], window=1.0, hop=5.0), windows([0.9, 0.7], window=4.0, hop=3.0)
    short["start"], short["end"] = short["start"] + 1, short["end"] + 1
    events = windows_to_events(pd.concat([long, short]))
    assert spans(events) == [[0, 7]]
    assert events["probability"].tolist() == [0.9]


def test_rounding_does_not_part_windows_that_touch():
    table = windows(np.ones(1000), window=0.1, hop=0.1)
    table["end"] -= 1e-9
    assert len(windows_to_events(table)) == 1


def test_rounding_does_not_make_an_event_too_short():
    table = windows([0.9, 0.9]).assign(start=[0.1, 0.2], end=[0.2, 0.3])
    assert 0.3 - 0.1 < 0.2  # by the last bit
    assert spans(windows_to_events(table, min_duration=0.2)) == [[0.1, 0.3]]


def test_certain_windows_reach_the_highest_threshold():
    table = windows([1.0, 0.999])
    assert spans(windows_to_events(table, threshold=1.0)) == [[0, 1]]
    assert spans(windows_to_events(table, threshold={"dog": 1})) == [[0, 1]]


def test_recordings_are_kept_apart_in_their_order():
    second = windows([0.9, 0.9], path="a.wav")
    table = pd.concat([windows([0.1, 0.9], path="b.wav"), second])
    events = windows_to_events(table)
    assert list(events.columns) == ["path", "start", "end", "class", "probability"]
    assert events["path"].tolist() == ["b.wav", "a.wav"]
    assert spans(events) == [[1, 2], [0, 2]]


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    table = pd.concat(
        [windows(rng.uniform(size=200), hop=0.5, name=name) for name in ("dog", "rain", "sea")]
    )
    shuffled = table.sample(frac=1, random_state=0)
    key = ["start", "class"]
    pd.testing.assert_frame_equal(
        windows_to_events(table).sort_values(key, ignore_index=True),
        windows_to_events(shuffled).sort_values(key, ignore_index=True),
    )


def test_events_hold_exactly_the_time_of_their_windows():
    table = windows(np.random.default_rng(0).uniform(size=300), hop=0.25)
    events = windows_to_events(table, threshold=0.8)
    grid = np.arange(0, 80, 0.25) + 0.125
    loud = table[table["probability"] >= 0.8]
    inside = [((t >= loud["start"]) & (t < loud["end"])).any() for t in grid]
    found = [((t >= events["start"]) & (t < events["end"])).any() for t in grid]
    assert inside == found
    assert (events["start"].to_numpy()[1:] > events["end"].to_numpy()[:-1]).all()


def test_gaps_are_bridged_and_short_events_dropped_on_demand():
    table = windows([0.9, 0.1, 0.9, 0.1, 0.1, 0.9])
    assert spans(windows_to_events(table, max_gap=1.0)) == [[0, 3], [5, 6]]
    assert spans(windows_to_events(table, max_gap=2.0)) == [[0, 6]]
    assert spans(windows_to_events(table, max_gap=1.0, min_duration=3.0)) == [[0, 3]]
    assert spans(windows_to_events(windows([0.9, 0.9], hop=5.0))) == [[0, 1], [5, 6]]


def test_thresholds_may_differ_by_class_and_silence_the_rest():
    table = pd.concat([windows([0.6, 0.8], name=name) for name in ("dog", "rain", "sea")])
    events = windows_to_events(table, threshold={"dog": 0.7, "rain": 0.5})
    assert events["class"].tolist() == ["rain", "dog"]
    assert spans(events) == [[0, 2], [1, 2]]


@pytest.mark.parametrize("table", [windows([0.1, 0.2]), windows([]), windows([0.1], path="a.wav")])
def test_no_event_is_a_table_with_the_same_columns(table):
    events = windows_to_events(table)
    assert len(events) == 0
    assert list(events.columns) == list(table.columns)
    assert events["start"].dtype == table["start"].dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold of windows_to_events must be .* \[0, 1\], got 1\.5"),
        ({"threshold": {"dog": -1}}, "threshold of windows_to_events for 'dog' must be .* got -1"),
        ({"threshold": {"dgo": 0.5}}, r"must name classes of the table, \['dog'\], got \['dgo'\]"),
        ({"threshold": None}, "threshold of windows_to_events must be a number in .* got None"),
        ({"max_gap": -1}, "max_gap of windows_to_events must be a number >= 0, got -1"),
        ({"min_duration": np.nan}, "min_duration of windows_to_events must be .* got nan"),
        ({"table": pd.DataFrame({"a": [1]})}, r"columns start, end, class, .* with \['a'\]"),
        (
            {"table": [1, 2]},
            r"table of windows_to_events must be a DataFrame .* got list with \[\]",
        ),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        windows_to_events(**{"table": windows([0.9])} | options)


def test_audacity_labels_come_back(tmp_path, events):
    write_audacity_labels(events, tmp_path / "labels.txt")
    lines = (tmp_path / "labels.txt").read_bytes().decode().split("\n")
    assert lines == [
        "0.500000\t1.500000\tdog",
        "2.000000\t4.000000\tParus major (Kohlmeise)",
        "7200.123456\t7203.000000\tcafé 'x' \"y\"",
        "",
    ]
    write_audacity_labels(events, tmp_path / "labels.txt", with_probability=True)
    assert (tmp_path / "labels.txt").read_text().startswith("0.500000\t1.500000\tdog 0.91\n")


def test_a_raven_table_comes_back(tmp_path, events):
    write_raven_table(events, tmp_path / "night.selections.txt", fmin=100, fmax=8000)
    table = pd.read_csv(tmp_path / "night.selections.txt", sep="\t", quoting=3)
    assert list(table.columns) == [
        "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)",
        "High Freq (Hz)", "Class", "Score",
    ]  # fmt: skip
    assert table["Selection"].tolist() == [1, 2, 3]
    assert set(table["View"]) == {"Spectrogram 1"}
    assert set(table["Channel"]) == {1}
    np.testing.assert_allclose(table[["Begin Time (s)", "End Time (s)"]], spans(events))
    assert (table[["Low Freq (Hz)", "High Freq (Hz)"]] == [100, 8000]).all(axis=None)
    assert table["Class"].tolist() == ["dog", "Parus major (Kohlmeise)", "café 'x' \"y\""]
    np.testing.assert_allclose(table["Score"], events["probability"])


def test_a_raven_table_says_which_recording_it_is_of(tmp_path, events, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raven_table(events.assign(path="night.wav"), "a.txt")
    table = pd.read_csv("a.txt", sep="\t", quoting=3)
    assert set(table["Begin Path"]) == {str(tmp_path / "night.wav")}
    np.testing.assert_allclose(table["File Offset (s)"], events["start"])


def test_nothing_to_export_is_a_valid_file(tmp_path, events):
    write_audacity_labels(events[:0], tmp_path / "labels.txt")
    assert (tmp_path / "labels.txt").read_bytes() == b""
    write_raven_table(events[:0], tmp_path / "night.txt")
    table = pd.read_csv(tmp_path / "night.txt", sep="\t")
    assert len(table) == 0
    assert list(table.columns)[-2:] == ["Class", "Score"]


@pytest.mark.parametrize("write", [write_audacity_labels, write_raven_table])
def test_files_are_replaced_whole_or_not_at_all(tmp_path, events, write, monkeypatch):
    target = tmp_path / "a.txt"
    target.write_text("before")
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(events, target)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [write_audacity_labels, write_raven_table])
def test_what_cannot_be_written_is_named(tmp_path, events, write):
    name = write.__name__
    two = pd.concat([events.assign(path="a.wav"), events.assign(path="b.wav")])
    with pytest.raises(ValueError, match=rf"events of {name} must be of one recording, got 2"):
        write(two, tmp_path / "a.txt")
    with pytest.raises(ValueError, match=rf"events of {name} must be a DataFrame"):
        write(events.drop(columns="class"), tmp_path / "a.txt")
    with pytest.raises(ValueError, match=rf"path of {name} must be in a folder .* No such file"):
        write(events, tmp_path / "missing" / "a.txt")
    with pytest.raises(ValueError, match=rf"path of {name} must be a file, got the folder"):
        write(events, tmp_path)
    with pytest.raises(ValueError, match=rf"path of {name} must be a str or PathLike, got None"):
        write(events, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("band", "message"),
    [
        ({"fmin": -1}, "fmin of write_raven_table must be a number >= 0, got -1"),
        ({"fmin": 500, "fmax": 500}, "fmin of write_raven_table must be below fmax=500, got 500"),
        ({"fmax": "high"}, "fmax of write_raven_table must be a number >= 0, got 'high'"),
    ],
)
def test_bad_bands_are_named(tmp_path, events, band, message):
    with pytest.raises(ValueError, match=message):
        write_raven_table(events, tmp_path / "a.txt", **band)


@pytest.mark.parametrize("function", [windows_to_events, write_audacity_labels, write_raven_table])
def test_examples_in_docstrings_run(function):
    (example,) = doctest.DocTestFinder(recurse=False).find(function, globs=vars(skaudio).copy())
    result = doctest.DocTestRunner().run(example)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("starts", [np.nan, [0.5, 2.0, np.nan], [0.5, np.inf, 7200.0]], ids=str)
def test_tables_without_numbers_are_refused(tmp_path, events, starts):
    bad = events.assign(start=starts)
    with pytest.raises(
        ValueError, match="events of write_audacity_labels must hold finite numbers"
    ):
        write_audacity_labels(bad, tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"table of windows_to_events .* finite numbers as 'prob"):
        windows_to_events(events.assign(probability="high"))


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, events):
    path = tmp_path / "a.txt"
    path.touch(mode=0o600)
    write_audacity_labels(events.iloc[:0], path)
    assert path.stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"path .* must be a file, got the device, pipe or socket"):
        write_audacity_labels(events.iloc[:0], tmp_path / "pipe")


@pytest.mark.parametrize("threshold", [0.5, {"caf\udce9": 0.5}])
def test_names_that_are_no_unicode_are_kept_apart_and_written(tmp_path, threshold):
    names = pd.Series(["a\udce9.wav", "a\udce9.wav", "b.wav"], dtype=object)
    table = windows([0.9, 0.8, 0.7], path=names)
    table["class"] = pd.Series(["caf\udce9"] * 3, dtype=object)
    events = windows_to_events(table, threshold=threshold)
    assert events["path"].tolist() == ["a\udce9.wav", "b.wav"]
    assert spans(events) == [[0, 2], [2, 3]]
    write_audacity_labels(events[:1], tmp_path / "labels.txt")
    assert b"caf\xe9" in (tmp_path / "labels.txt").read_bytes()
