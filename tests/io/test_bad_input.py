"""Whatever is wrong with a file, the user gets a line that names it, or a scan."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsp3d.io import Scan, ScanError, UserError, find_scans, iter_scans, load_scan
from tsp3d.io.cloud import Chunk, Collector
from tsp3d.io.load import READERS


def load_or_explain(path) -> Scan | None:
    """Load, or fail with one line that names the file."""
    try:
        return load_scan(path)
    except ScanError as error:
        assert path.name in str(error) and "\n" not in str(error)
        return None


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_empty_file(suffix: str, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(ScanError, match="empty"):
        load_scan(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", sorted(READERS))
@pytest.mark.parametrize("content", [b"\0" * 300, b"hello\n" * 20, bytes(range(256)) * 4, b"\xff\xfe1\0 \0", b"[]"])
def test_nonsense(suffix: str, content: bytes, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ScanError, match=f"a\\{suffix}"):
        load_scan(path)
    assert path.read_bytes() == content


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4))
def test_damaged_files(point_format, room, tmp_path, cut: float, flips: list[tuple[float, int]]):
    suffix, write = point_format
    original, damaged = tmp_path / f"whole{suffix}", tmp_path / f"damaged{suffix}"
    if not original.exists():
        write(original, room[0][:200], room[1][:200])
    data = bytearray(original.read_bytes())
    for place, value in flips:
        data[int(place * min(len(data) - 1, 600))] = value  # mostly the header
    damaged.write_bytes(bytes(data[: int(cut * len(data))]))
    load_or_explain(damaged)


@pytest.mark.parametrize("rows", ["x;y;z\n0,5;1,5;2,5\n", "0 0 1 chair\n1 0 1 chair\n"])
def test_rows_that_are_not_numbers_alone(tmp_path, rows: str):
    (tmp_path / "a.txt").write_text(rows)
    with pytest.raises(ScanError, match="no line holds numbers alone, with decimal points"):
        load_scan(tmp_path / "a.txt")


def test_ply_that_promises_too_much(tmp_path):
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 4000000000000\nproperty float x\nproperty float y\n"
    (tmp_path / "huge.ply").write_bytes((header + "property float z\nend_header\n").encode() + b"\0" * 24)
    with pytest.raises(ScanError, match=r"huge\.ply"):
        load_scan(tmp_path / "huge.ply")


def test_ply_face_beyond_its_vertices(tmp_path):
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n"
    )
    with pytest.raises(ScanError, match=r"a\.ply: a face points to vertex 9"):
        load_scan(tmp_path / "a.ply")


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", xyz=np.array([{"x": 1}], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ScanError, match=name):
            load_scan(tmp_path / name)


def test_no_message_quotes_the_advice_to_run_what_a_file_holds(tmp_path):
    for name in ("a.npy", "a.npz"):
        (tmp_path / name).write_bytes(b"not an array")
        with pytest.raises(ScanError) as caught:
            load_scan(tmp_path / name)
        assert "pickle" not in str(caught.value)


def test_an_archive_that_is_cut_short_and_one_that_is_misnamed(room, tmp_path):
    np.savez(tmp_path / "a.npz", xyz=room[0])
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:2000])
    with pytest.raises(ScanError, match=r"a\.npz: the NPZ archive is cut short"):
        load_scan(tmp_path / "a.npz")
    (tmp_path / "a.npy").write_bytes(whole)
    with pytest.raises(ScanError, match=r"a\.npy: this is an NPZ archive"):
        load_scan(tmp_path / "a.npy")


def test_missing_folder_and_unknown_format(tmp_path):
    with pytest.raises(ScanError, match="no such file"):
        load_scan(tmp_path / "none.ply")
    with pytest.raises(ScanError, match="folder"):
        load_scan(tmp_path)
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(ScanError, match=r"\.docx; convert it to one of PLY"):
        load_scan(tmp_path / "a.docx")
    with pytest.raises(ScanError, match="not a usable path|no such file|cannot be opened"):
        load_scan("a\0b.ply")
    with pytest.raises(ScanError):
        load_scan("x" * 5000 + ".ply")


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    with pytest.raises(ScanError, match="not a regular file"):
        load_scan(tmp_path / "pipe.ply")


def test_not_finite_points_go_with_a_count(room, tmp_path, write_scan, caplog: pytest.LogCaptureFixture):
    xyz = room[0].copy()
    xyz[::3, 1] = np.nan
    xyz[1::3, 0] = np.inf
    xyz[2, 2] = 1e30
    with caplog.at_level(logging.WARNING):
        scan = load_scan(write_scan(tmp_path / "nan.ply", xyz, room[1]))
    assert len(scan) == len(xyz) - 2001 and np.isfinite(scan.xyz).all()
    assert "nan.ply: dropped 2001 of 3000" in caplog.text
    with pytest.raises(ScanError, match="NaN"):
        load_scan(write_scan(tmp_path / "all.ply", xyz * np.nan))


def test_one_point_and_no_point(tmp_path, write_scan):
    scan = load_scan(write_scan(tmp_path / "one.npy", [[1.0, 2.0, 3.0]]))
    assert len(scan) == 1 and (scan.xyz == 0).all()
    with pytest.raises(ScanError, match="no points"):
        load_scan(write_scan(tmp_path / "none.npy", np.zeros((0, 3))))


@pytest.mark.parametrize("shape", [(5,), (5, 2), (2, 5, 3), ()])
def test_arrays_of_the_wrong_shape(shape: tuple[int, ...], tmp_path):
    with pytest.raises(ScanError, match=r"\(N, 3\).*xyz\.reshape\(-1, 3\)"):
        Scan(np.zeros(shape))
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(ScanError, match=r"a\.npy"):
        load_scan(tmp_path / "a.npy")


def test_what_is_no_path_unit_axis_or_frame(room):
    for path in (None, 3, b"room.ply"):
        with pytest.raises(ScanError, match="path must be text"):
            load_scan(path)  # type: ignore[arg-type]
    for wrong in ({"unit": ["mm"]}, {"up": ["z"]}):
        with pytest.raises(UserError, match="unknown"):
            Scan.from_arrays(room[0], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ScanError, match="frame must be"):
        Scan(room[0], frame=5)  # type: ignore[arg-type]
    with pytest.raises(ScanError, match="no array can be made"):
        Scan([[1.0, 2.0, 3.0], [1.0]])  # type: ignore[arg-type]


def test_colours_must_fit(room):
    with pytest.raises(ScanError, match="3000 points but colours"):
        Scan(room[0], room[1][:10])
    with pytest.raises(ScanError, match="numbers"):
        Scan(np.array([["a", "b", "c"]]))


def test_far_strays_go_and_absurd_extents_are_refused(room, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        scan = Scan(np.concatenate([room[0], [[1e9, 0, 0]]]))
    assert len(scan) == len(room[0]) and "far away" in caplog.text
    with pytest.raises(ScanError, match="--unit"):
        Scan(room[0] * 1e7)


def test_survey_coordinates_keep_millimetres(room):
    offset = np.array([691_000.0, 5_330_000.0, 512.0])
    scan = Scan(room[0] + offset)
    np.testing.assert_allclose(scan.input_frame.to_input(scan.xyz) - offset, room[0], atol=1e-3)


def test_survey_coordinates_in_32_bits_are_told(room, tmp_path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        Scan((room[0] + [0.0, 1000.0, 0.0]).astype(np.float32))  # 0.06 mm apart
        Scan(np.concatenate([room[0], [[1e9, 0, 0]]]).astype(np.float32))  # one stray says nothing of the others
    assert "64 bits" not in caplog.text
    np.save(tmp_path / "utm.npy", (room[0] + [691_000.0, 5_330_000.0, 512.0]).astype(np.float32))
    with caplog.at_level(logging.WARNING):
        load_scan(tmp_path / "utm.npy")
    assert "utm.npy" in caplog.text and "0.5 units apart" in caplog.text and "64 bits" in caplog.text


def test_thinning_is_bounded_deterministic_and_blind_to_chunks():
    rng = np.random.default_rng(0)
    xyz = rng.random((50_000, 3)) * [5, 4, 2.5]
    rgb = rng.integers(0, 255, (50_000, 3)).astype(np.uint8)
    results = []
    for size in (50_000, 7_000, 1_234):
        collector = Collector("big", max_points=4_000)
        for start in range(0, len(xyz), size):
            collector.add(Chunk(xyz[start : start + size], rgb[start : start + size]))
            assert collector._kept <= 4_000
        results.append(collector.finish())
    assert 500 < len(results[0].xyz) <= 4_000
    for other in results[1:]:
        np.testing.assert_array_equal(other.xyz, results[0].xyz)
        np.testing.assert_array_equal(other.rgb, results[0].rgb)  # type: ignore[arg-type]


def test_folder_and_pattern(room, tmp_path, write_scan):
    for name in ("b.ply", "a.xyz", "c-1-chair.tsp3d.ply", ".hidden.ply"):
        write_scan(tmp_path / name, room[0])
    (tmp_path / "notes.md").write_text("no scan")
    assert [path.name for path in find_scans(tmp_path)] == ["a.xyz", "b.ply"]
    assert [path.name for path in find_scans(str(tmp_path / "*.ply"))] == ["b.ply"]
    assert sum(len(scan) for scan in iter_scans(tmp_path)) == 6000
    with pytest.raises(ScanError, match="pattern"):
        find_scans(str(tmp_path / "*.las"))
    (tmp_path / "sub").mkdir()
    with pytest.raises(ScanError, match=rf"^{tmp_path}/sub: the folder holds no scan"):
        find_scans(tmp_path / "sub")
    with pytest.raises(ScanError, match="empty"):
        find_scans("")


def test_one_vertex_without_a_place_costs_its_faces_alone(tmp_path):
    (tmp_path / "a.obj").write_text("v nan 0 0\nv 2 0 0\nv 2 2 0\nv 0 2 0\nv 0 2 1\nf 1 2 3\nf 3 4 5\n")
    scan = load_scan(tmp_path / "a.obj")
    np.testing.assert_allclose(np.ptp(scan.xyz, axis=0), (2.0, 0.0, 1.0), atol=0.01)


def test_ply_face_before_its_vertices(tmp_path):
    text = (
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -7\n"
    )
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(ScanError, match="a face points to vertex -7"):
        load_scan(tmp_path / "a.ply")
