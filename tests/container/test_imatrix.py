"""Importance matrices of both formats, and the entry that weights a tensor."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import gguf as gguf_package
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qxmix.container.imatrix import Imatrix, find_importance, importance_of
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.model import TensorInfo
from qxmix.errors import Problem
from tests.container.naive_imatrix import read_dat
from tests.gguf_bytes import dat, dat_entry, dat_trailer, imatrix_gguf, tensor

VALUES = st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,30}", fullmatch=True)
ENTRIES = st.lists(st.tuples(NAMES, VALUES, st.integers(-1, 2**31 - 1)), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES, st.one_of(st.none(), st.tuples(st.integers(0, 2**31 - 1), st.text(max_size=20))))
def test_dat_against_the_slow_reader(
    tmp_path: Path, entries: list[tuple[str, list[float], int]], trailer: tuple[int, str] | None
) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat([dat_entry(*e) for e in entries], dat_trailer(*trailer) if trailer else b""))
    imatrix = load_imatrix(path)
    expected, n_chunks, dataset = read_dat(path)
    assert list(imatrix.entries) == list(expected)
    for name, values in expected.items():
        assert imatrix.entries[name].dtype == np.float32
        assert imatrix.entries[name].tolist() == values
    assert imatrix.n_chunks == n_chunks
    assert imatrix.datasets == ((dataset,) if dataset else ())
    assert imatrix.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_last_of_equal_names_wins(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat([dat_entry("a", [1.0, 2.0]), dat_entry("b", [3.0]), dat_entry("a", [5.0], 2)]))
    imatrix = load_imatrix(path)
    assert {n: v.tolist() for n, v in imatrix.entries.items()} == {"a": [2.5], "b": [3.0]}


def test_entries_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat([dat_entry("a", [1.0, 2.0], 2), dat_entry("b", [1.0, 2.0], 0)]))
    for values in load_imatrix(path).entries.values():
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 7


def test_a_dat_may_state_its_chunks_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat([dat_entry("a", [1.0])], struct.pack("<i", 77)))
    assert (load_imatrix(path).n_chunks, load_imatrix(path).datasets) == (77, ())


def test_the_demo_matrices_are_read(demo_imatrix: Path, demo_moe_imatrix: Path) -> None:
    for path in (demo_imatrix, demo_moe_imatrix):
        expected, n_chunks, _ = read_dat(path)
        imatrix = load_imatrix(path)
        assert {n: v.tolist() for n, v in imatrix.entries.items()} == expected
        assert imatrix.n_chunks == n_chunks


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        NAMES,
        st.tuples(st.integers(1, 9), st.lists(st.integers(0, 4096), min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    ),
    st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_gguf_against_the_package(
    tmp_path: Path, entries: dict[str, tuple[int, list[int]]], datasets: list[str], n_chunks: int
) -> None:
    path = tmp_path / "m.gguf"
    rng = np.random.default_rng(3)
    writer = gguf_package.GGUFWriter(path, "llama")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", datasets)
    writer.add_uint32("imatrix.chunk_count", n_chunks)
    writer.add_uint32("imatrix.chunk_size", 512)
    expected = {}
    for name, (n_cols, counts) in entries.items():
        sums = rng.random((len(counts), n_cols), dtype=np.float32) * np.float32(1000)
        writer.add_tensor(name + ".in_sum2", sums)
        writer.add_tensor(name + ".in_sum", -sums)
        writer.add_tensor(name + ".counts", np.array(counts, np.float32).reshape(-1, 1))
        rows = [s / np.float32(c) if c else np.ones_like(s) for s, c in zip(sums, counts, strict=True)]
        expected[name] = np.concatenate(rows).tolist()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    imatrix = load_imatrix(path)
    assert {n: v.tolist() for n, v in imatrix.entries.items()} == expected
    assert imatrix.datasets == tuple(datasets)
    assert imatrix.n_chunks == n_chunks
    assert not any(v.flags.writeable for v in imatrix.entries.values())


def test_gguf_entries_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    table = [tensor("a.counts", (1, 2), 0, 32), tensor("a.in_sum2", (2, 2), 0, 0)]
    path.write_bytes(imatrix_gguf(table, struct.pack("<4f", 2, 4, 6, 8) + bytes(16) + struct.pack("<2f", 2, 0)))
    imatrix = load_imatrix(path)
    assert imatrix.entries["a"].tolist() == [1, 2, 1, 1]
    assert imatrix.datasets == ("calib.txt", "more.txt")
    assert imatrix.n_chunks == 12


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_large_matrix_is_in_memory_once(tmp_path: Path) -> None:
    """An entry is read when its turn comes: 64 MB of values take 64 MB and not twice that."""
    path = tmp_path / "large.dat"
    entry = dat_entry("blk.0.ffn_up_exps.weight", [], 3, 1 << 22) + np.ones(1 << 22, np.float32).tobytes()
    path.write_bytes(dat([entry.replace(b"blk.0", b"blk.%d" % i) for i in range(4)]))
    code = (
        "import re, sys; from pathlib import Path; import qxmix.container.imatrix_files as f\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak(); kept = f.read_imatrix_file(Path(sys.argv[1])); print(peak() - before, len(kept.entries))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    grown_kib, n_entries = map(int, done.stdout.split())
    assert n_entries == 4
    assert 64 << 10 < grown_kib < 120 << 10  # 104 MB: the last entry is read, divided and checked at once


def matrix_of(tmp_path: Path, **sizes: int) -> Imatrix:
    entries = {n.replace("__", "."): np.arange(size, dtype=np.float32) for n, size in sizes.items()}
    return Imatrix(tmp_path / "m.dat", "", entries, (), 0)


def info(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, 0, 0, 0, 0)


def test_an_entry_by_its_own_name(tmp_path: Path) -> None:
    imatrix = matrix_of(tmp_path, a__weight=8, experts__weight=24)
    assert find_importance(imatrix, info("a.weight", 8, 5)).entry == "a.weight"
    match = find_importance(imatrix, info("experts.weight", 8, 5, 3))
    assert (match.entry, match.problem) == ("experts.weight", None)
    assert find_importance(imatrix, info("b.weight", 8, 5)).entry is None
    assert find_importance(imatrix, info("b.weight", 8, 5)).problem is None


def test_each_expert_has_its_slice(tmp_path: Path) -> None:
    imatrix = matrix_of(tmp_path, e=12)
    assert [importance_of(imatrix, "e", 4, i).tolist() for i in range(3)] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]  # fmt: skip


def test_an_entry_of_the_wrong_size_is_a_problem(tmp_path: Path) -> None:
    match = find_importance(matrix_of(tmp_path, a=8), info("a", 8, 5, 3))
    assert match.entry is None
    assert match.problem is not None
    assert str(match.problem) == (
        "a: the importance matrix has 8 values for it and 8 columns x 3 matrices need 24; "
        "use a matrix that was made from this model"
    )
    assert (match.problem.severity, match.problem.id) == ("warning", "imatrix-size")


B = "blk.3."
ALTERNATES = [
    ("ffn_up_exps.weight", "ffn_gate_up_exps.weight"),
    ("ffn_gate_exps.weight", "ffn_gate_up_exps.weight"),
    ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    ("ffn_gate_up_exps.weight", "ffn_up_exps.weight"),
    ("ffn_gate_up_exps.weight", "ffn_gate_exps.weight"),
    ("ffn_gate.weight", "ffn_up.weight"),
    ("attn_v_b.weight", "attn_kv_b.weight"),
    ("attn_kv_b.weight", "attn_v_b.weight"),
]


@pytest.mark.parametrize(("name", "other"), ALTERNATES)
def test_a_twin_stands_in_where_the_sizes_agree(name: str, other: str, tmp_path: Path) -> None:
    imatrix = matrix_of(tmp_path, **{B + other: 24})
    match = find_importance(imatrix, info(B + name, 8, 5, 3))
    assert match.entry == B + other
    assert match.problem == Problem(
        B + name, f"has no entry of its own in the importance matrix and takes that of '{B + other}', its twin",
        "note", "imatrix-alternate")  # fmt: skip
    assert find_importance(imatrix, info(B + name, 8, 5, 3), alternates=False).entry is None
    assert find_importance(imatrix, info(B + name, 8, 5)).entry is None


def test_the_twin_of_a_tensor_whose_own_entry_has_the_wrong_size(tmp_path: Path) -> None:
    imatrix = matrix_of(tmp_path, **{"blk.0.attn_kv_b.weight": 7, "blk.0.attn_v_b.weight": 8})
    assert find_importance(imatrix, info("blk.0.attn_kv_b.weight", 8, 5)).entry == "blk.0.attn_v_b.weight"


def test_tensors_without_twins(tmp_path: Path) -> None:
    imatrix = matrix_of(tmp_path, **{"blk.0.ffn_gate.weight": 8})
    assert find_importance(imatrix, info("blk.0.ffn_up.weight", 8, 5)).entry is None
