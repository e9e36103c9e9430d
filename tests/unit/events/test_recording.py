"""Recordings of event cameras in every format that is read, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.errors import DataError
from icsnn_deploy.events import prophesee
from icsnn_deploy.events.recording import Events, as_events, is_recording, read_recording

COLUMNS: dict[str, Any] = {
    "t": np.array([10, 20, 20, 35]),
    "x": np.array([0, 3, 2, 1]),
    "y": np.array([5, 0, 1, 1]),
    "p": np.array([1, 0, 0, 1]),
}


def same(found: Events, wanted: dict[str, Any] = COLUMNS) -> bool:
    return all(getattr(found, key).tolist() == wanted[key].tolist() for key in "txyp")


def structured(order: str = "xytp") -> Any:
    array = np.empty(4, [(name, {"t": "<i8", "p": "?"}.get(name, "<i2")) for name in order])
    for name in order:
        array[name] = COLUMNS[name]
    return array


def dat(events: dict[str, Any] = COLUMNS, header: bytes = b"% Version 2\n% end\n") -> bytes:
    place = events["x"] | (events["y"] << 14) | (events["p"] << 28)
    words = np.stack([events["t"], place], axis=1).astype("<u4")
    return header + bytes([12, 8]) + words.tobytes()


def evt2(*words: int, header: bytes = b"% evt 2.0 \n% end\n") -> bytes:
    return header + np.array(words, "<u4").tobytes()


def event(p: int, low: int, x: int, y: int) -> int:
    return p << 28 | low << 22 | x << 11 | y


def time_high(value: int) -> int:
    return 8 << 28 | value


def test_structured_arrays_in_any_order_of_the_fields(tmp_path: Path) -> None:
    for order in ("xytp", "txyp"):
        np.save(tmp_path / "a.npy", structured(order))
        assert is_recording(tmp_path / "a.npy")
        assert same(read_recording(tmp_path / "a.npy"))


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_four_columns_are_t_x_y_p(tmp_path: Path, dtype: Any) -> None:
    np.save(tmp_path / "a.npy", np.stack([COLUMNS[k] for k in "txyp"], axis=1).astype(dtype))
    assert is_recording(tmp_path / "a.npy")
    assert same(read_recording(tmp_path / "a.npy"))


def test_archives_with_an_array_of_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **COLUMNS, label=np.array(3))
    assert is_recording(tmp_path / "a.npz")
    assert same(read_recording(tmp_path / "a.npz"))


def test_files_of_prophesee_cameras(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(dat())
    assert same(read_recording(tmp_path / "a.dat"))
    words = [event(1, 3, 9, 9)]  # before the first time: left out
    for t, x, y, p in zip(*(COLUMNS[k].tolist() for k in "txyp"), strict=True):
        words += [time_high(t >> 6), event(p, t & 63, x, y), 0xA << 28]  # and a trigger
    (tmp_path / "a.raw").write_bytes(evt2(*words))
    assert same(read_recording(tmp_path / "a.raw"))


def test_times_of_evt2_go_on_when_their_word_wraps(tmp_path: Path) -> None:
    last = (1 << 28) - 1
    words = (time_high(last), event(0, 63, 1, 1), time_high(0), event(1, 0, 2, 2))
    (tmp_path / "a.raw").write_bytes(evt2(*words))
    assert read_recording(tmp_path / "a.raw").t.tolist() == [(1 << 34) - 1, 1 << 34]


def test_times_of_evt2_that_step_back_a_little_are_out_of_order_and_no_wrap(tmp_path: Path) -> None:
    words = []
    for upper, x in ((5, 0), (4, 1), (6, 2)):
        words += [time_high(upper), event(1, 0, x, 0)]
    (tmp_path / "a.raw").write_bytes(evt2(*words))
    found = read_recording(tmp_path / "a.raw")
    assert found.t.tolist() == [4 << 6, 5 << 6, 6 << 6]
    assert found.x.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("uppers", "expected"),
    [
        ([(1 << 28) - 1, 0, (1 << 28) - 1, 1], [-1, -1, 0, 1]),  # out of order around a wrap
        ([0, (1 << 28) - 1], [-(1 << 28), -1]),  # a gap
        ([(1 << 28) - 1, 0, 1 << 27, (1 << 28) - 1, 0], [-1, 0, 1 << 27, (1 << 28) - 1, 1 << 28]),
        ([1 << 27, 0], [-(1 << 28), -(1 << 27)]),  # half of the period is no wrap
    ],
)
def test_times_of_evt2_around_a_wrap(
    uppers: list[int], expected: list[int], tmp_path: Path
) -> None:
    words = [word for upper in uppers for word in (time_high(upper), event(1, 0, 1, 1))]
    (tmp_path / "a.raw").write_bytes(evt2(*words))
    assert ((read_recording(tmp_path / "a.raw").t >> 6) - (1 << 28)).tolist() == expected


def test_times_of_dat_files_wrap_at_32_bits(tmp_path: Path) -> None:
    times = np.array([(1 << 32) - 1, 0, 5, 3])
    (tmp_path / "a.dat").write_bytes(dat({**COLUMNS, "t": times}))
    found = read_recording(tmp_path / "a.dat").t - (1 << 32)
    assert found.tolist() == [-1, 0, 3, 5]


def test_events_are_sorted_by_time_and_polarities_are_0_and_1() -> None:
    order = [2, 0, 3, 1]
    mixed = {key: value[order] for key, value in COLUMNS.items()}
    mixed["p"] = 2 * mixed["p"] - 1
    found = as_events(mixed, "a")
    assert found.t.tolist() == [10, 20, 20, 35]
    assert found.x.tolist() == [0, 2, 3, 1]  # equal times keep their order
    assert found.p.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.array([0, -1, 2, 1])}, "x from -1 to 2"),
        ({"y": np.array([5, 0, 1, 90_000])}, "in the order t, x, y, p"),
        ({"p": np.array([0, 1, 2, 1])}, r"polarities p \[0, 1, 2\]"),
        ({"p": np.array([0.0, 1, 1, 1])}, "p of type float64; integers"),
        ({"t": np.array([0, 1, np.nan, 3])}, "a time t of NaN"),
        ({"t": np.array([0, 1, 2, 2**63 - 1])}, "below 2"),
        ({"t": np.array([-1.7e308, 0, 1, 1.7e308])}, "below 2"),  # their difference is infinite
        ({"t": np.array([0, 1, 2])}, r"\[N\] each is needed"),
        ({key: np.zeros(0, np.int64) for key in "txyp"}, "no events"),
    ],
)
def test_what_no_sensor_sends_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_events({**COLUMNS, **changes}, "a.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"no array", "not a readable array file"),
        ("a.npz", b"PK no archive", "not a readable array file"),
        ("a.dat", b"", "not a .dat file"),
        ("a.dat", dat()[:-3], "cut off"),
        ("a.dat", b"% a header without an end", "without an end"),
        ("a.raw", evt2(time_high(1), event(0, 0, 1, 1))[:-1], "cut off"),
        ("a.raw", evt2(event(0, 0, 1, 1)), "no events"),
        ("a.raw", evt2(1, header=b"% evt 3.0\n"), "does not say EVT 2.0"),
    ],
)
def test_damaged_files_end_in_one_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_recording(tmp_path / name)


def test_other_arrays_are_no_recordings(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2, 8, 8), np.uint8))
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 2)))
    assert not is_recording(tmp_path / "a.npy")
    assert not is_recording(tmp_path / "a.npz")
    with pytest.raises(DataError, match="a recording is a structured array"):
        read_recording(tmp_path / "a.npy")
    fields = np.zeros(2, [("t", "i8"), ("x", "i2")])
    np.save(tmp_path / "a.npy", fields)
    with pytest.raises(DataError, match="fields t, x, y and p are needed"):
        read_recording(tmp_path / "a.npy")


def test_a_file_larger_than_any_sample_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dat").write_bytes(dat())
    monkeypatch.setattr(prophesee, "_MOST_BYTES", 10)
    with pytest.raises(DataError, match="at most 10 are read"):
        read_recording(tmp_path / "a.dat")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.dat", "a.raw"])
def test_mutated_files_end_in_events_or_one_error(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", structured())
    np.savez(tmp_path / "a.npz", **COLUMNS)
    (tmp_path / "a.dat").write_bytes(dat())
    (tmp_path / "a.raw").write_bytes(evt2(time_high(1), event(0, 1, 2, 3), event(1, 5, 6, 7)))
    path, rng = tmp_path / name, np.random.default_rng(0)
    original = path.read_bytes()
    read = refused = 0
    for _ in range(300):
        content = np.frombuffer(original, np.uint8).copy()
        content[rng.integers(0, len(content), rng.integers(1, 4))] = rng.integers(0, 256)
        end = rng.integers(0, len(content)) if rng.random() < 0.3 else None
        path.write_bytes(content[:end].tobytes())
        try:
            found = read_recording(path)
        except DataError as error:
            refused += str(path) in str(error)
        else:
            assert (np.diff(found.t) >= 0).all()
            assert set(found.p.tolist()) <= {0, 1}
            read += 1
    assert read + refused == 300
    assert 50 < refused < 300
