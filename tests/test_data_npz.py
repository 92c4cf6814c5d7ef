"""Sketch-RNN npz files: what numpy and Python 2 write is read, and nothing that a pickle can do beyond it."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sketch_core.data import DataError, npz, read_npz, write_npz
from sketch_core.data.array_pickle import Refused, read_numbers

DATA = Path(__file__).parent / "data"
DRAWINGS = [
    np.array([[1, 2, 0], [-3, 4, 1]], dtype=np.int16),
    np.array([[0, 0, 1]], dtype=np.int16),
    np.array([[7, -7, 0], [300, 0, 1], [0, -300, 1]], dtype=np.int16),
]


def objects(items) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def npy(body: bytes, shape: str = "(3,)") -> bytes:
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(path: Path, *, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def assert_same(drawings, wanted) -> None:
    assert len(drawings) == len(wanted)
    for drawing, rows in zip(drawings, wanted, strict=True):
        assert drawing.dtype == np.int16
        np.testing.assert_array_equal(drawing, rows)


def test_the_fixture_is_read_as_numpy_reads_it():
    drawings = read_npz(DATA / "cat.npz")
    assert {split: len(rows) for split, rows in drawings.items()} == {"train": 6, "valid": 2, "test": 2}
    with np.load(DATA / "cat.npz", allow_pickle=True) as unpickled:
        for split, rows in drawings.items():
            assert_same(rows, unpickled[split])


def test_written_drawings_come_back(tmp_path):
    write_npz(
        tmp_path / "a.npz",
        {"train": DRAWINGS, "test": [], "valid": [rows.astype(float) for rows in DRAWINGS]},
    )
    back = read_npz(tmp_path / "a.npz")
    assert list(back) == ["train", "valid", "test"]
    assert_same(back["train"], DRAWINGS)
    assert_same(back["valid"], DRAWINGS)
    assert back["test"] == []
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_every_protocol_that_numpy_writes(protocol):
    pickled = pickle.dumps(objects(DRAWINGS), protocol)
    for found, wanted in zip(read_numbers(pickled), DRAWINGS, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2", "<i4", ">i8", "u1", "<f2", "<f4", ">f8", "?"])
def test_every_number_and_byte_order(dtype):
    rows = np.asfortranarray(np.array([[1, 0, 1], [1, 1, 0]]).astype(dtype))
    (found,) = read_numbers(pickle.dumps(objects([rows]), 4))
    assert found.dtype == rows.dtype
    np.testing.assert_array_equal(found, rows)


def test_what_python_2_wrote(tmp_path):
    """By hand, byte by byte as cPickle protocol 2 has it: strings of bytes, no unicode, memo by BINPUT."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    dtype = (
        b"cnumpy\ndtype\nq\x05"
        + text(b"O8")
        + b"K\x00K\x01\x87Rq\x06(K\x03"
        + text(b"|")
        + b"NNNJ"
        + b"\xff" * 4
    )
    dtype += b"J" + b"\xff" * 4 + b"K?tb"
    int16 = b"h\x05" + text(b"i2") + b"K\x00K\x01\x87Rq\x07(K\x03" + text(b"<") + b"NNNJ" + b"\xff" * 4
    int16 += b"J" + b"\xff" * 4 + b"K\x00tb"
    pickled = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85" + text(
        b"b"
    )
    pickled += b"\x87Rq\x03(K\x01\x8a\x01\x03\x85" + dtype + b"\x89]q\x04("
    for i, rows in enumerate(DRAWINGS):
        pickled += b"h\x01h\x02K\x00\x85" + text(b"b") + b"\x87R(K\x01K" + bytes([len(rows)]) + b"K\x03\x86"
        pickled += (b"h\x07" if i else int16) + b"\x89" + text(rows.tobytes()) + b"tb"
    pickled += b"etb."
    unpickled = pickle.loads(pickled, encoding="latin1")  # the bytes above are a pickle indeed
    assert_same(list(unpickled), DRAWINGS)
    path = archive(tmp_path / "old.npz", train=npy(pickled, "(3L,)"))
    assert_same(read_npz(path)["train"], DRAWINGS)


def test_plain_arrays_need_no_pickle(tmp_path):
    batch = np.stack([DRAWINGS[2], DRAWINGS[2][::-1]])
    np.savez(tmp_path / "a.npz", train=batch, test=np.asfortranarray(DRAWINGS[0].astype(float)))
    back = read_npz(tmp_path / "a.npz")
    assert_same(back["train"], batch)
    assert_same(back["test"], [DRAWINGS[0]])


def test_fractions_stay_fractions(tmp_path):
    rows = np.array([[0.5, 1.25, 1.0]])
    np.savez(tmp_path / "a.npz", train=objects([rows]))
    (found,) = read_npz(tmp_path / "a.npz")["train"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows)


class Call:
    """Pickled, it asks the reader to call `callee`."""

    def __init__(self, callee, *arguments):
        self.call = callee, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("callee", [os.system, eval, np.fromfile, np.load, pickle.loads])
def test_a_pickle_that_names_a_callable_is_refused_and_not_run(tmp_path, callee, protocol):
    ran = tmp_path / "ran"
    pickled = pickle.dumps(Call(callee, f"touch {ran}"), protocol)
    path = archive(tmp_path / "a.npz", train=npy(pickled, "(1,)"))
    with pytest.raises(
        DataError, match=r"a\.npz, train: its pickle .*wanted arrays of numbers and nothing else"
    ):
        read_npz(path)
    assert not ran.exists()
    if protocol >= 2:
        with pytest.raises(Refused, match=f"names the callable '.*{callee.__name__}'"):
            read_numbers(pickled)


def test_a_callable_beside_good_drawings_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train=objects([*DRAWINGS, Call(os.system, "true")]))
    with pytest.raises(DataError, match=f"names the callable '{os.name}.system'"):
        read_npz(tmp_path / "a.npz", on_error="skip")


@pytest.mark.parametrize(
    ("pickled", "complaint"),
    [
        (b"\x80\x02cnumpy\nndarray\nK\x02\x85R.", "calls something"),  # ndarray(2): allocates what it likes
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nK\x00K\x00K\x00\x87R.", "calls something"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "opcode b'}'"),
        (b"\x80\x02cnumpy\nndarray\n)b.", "sets the state"),
        (b"\x80\x02cnumpy\nndarray\n(K\x01e.", "appends to something"),
        (b"\x80\x02]K\x01a.", "no array of drawings"),
        (b"\x80\x02\x82\x01.", "opcode"),  # EXT1, the extension registry
        (b"\x80\x02Q.", "opcode b'Q'"),  # a persistent id
        (pickle.dumps(np.array([1 + 2j]), 4), "array of c16"),
        (pickle.dumps(np.array(["a"]), 4), "array of U1"),
        (pickle.dumps(np.array([(1, 2)], dtype="i2,i2"), 4), "opcode b'}'"),
    ],
)
def test_whatever_else_a_pickle_can_hold_is_refused(pickled, complaint):
    with pytest.raises(Refused, match=complaint):
        read_numbers(pickled)


def test_an_absurd_memo_costs_nothing():
    """CPython's unpickler would allocate and fill 64 GiB for this one opcode."""
    with pytest.raises(Refused, match="no array"):
        read_numbers(b"\x80\x02]r\xff\xff\xff\xff.")


@pytest.mark.parametrize("length", [-5, 1 << 30])
def test_a_string_of_absurd_length_is_damage(length):
    """-5 would lead back to the same opcode, for ever."""
    with pytest.raises(ValueError, match="truncated or damaged pickle"):
        read_numbers(b"\x80\x02T" + struct.pack("<i", length) + b"abc.")


def test_objects_within_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train=objects([DRAWINGS[0], np.array([["a", 1, 2]], dtype=object)]))
    with pytest.raises(DataError, match="train"):
        read_npz(tmp_path / "a.npz")
    nested = objects([DRAWINGS[0], objects([DRAWINGS[1]])])
    np.savez(tmp_path / "b.npz", train=nested)
    with pytest.raises(DataError, match=r"b\.npz, train, drawing 1: no array of numbers, wanted \(n, 3\)"):
        read_npz(tmp_path / "b.npz")


BROKEN = [
    (np.zeros((2, 4), np.int16), r"shape is \(2, 4\)"),
    (np.zeros((0, 3), np.int16), r"shape is \(0, 3\)"),
    (np.zeros(3, np.int16), r"shape is \(3,\)"),
    (np.array([[0, 0, 2]], np.int16), r"row \[0, 0, 2\]"),
    (np.array([[40000, 0, 1]], np.int32), "within ±32767"),
    (np.array([[0, np.nan, 1]]), "finite"),
    (np.array([[0, 1, 1], [-np.inf, 1, 1]]), r"row \[-inf, 1.0, 1.0\]"),
]


@pytest.mark.parametrize(("rows", "complaint"), BROKEN)
def test_a_broken_drawing_is_named_skipped_or_fatal(tmp_path, rows, complaint):
    np.savez(tmp_path / "a.npz", valid=objects([DRAWINGS[0], rows, DRAWINGS[2]]))
    with pytest.raises(DataError, match=rf"a\.npz, valid, drawing 1: .*{complaint}"):
        read_npz(tmp_path / "a.npz")
    assert_same(read_npz(tmp_path / "a.npz", on_error="skip")["valid"], [DRAWINGS[0], DRAWINGS[2]])
    errors = []
    read_npz(tmp_path / "a.npz", on_error=errors.append)
    assert len(errors) == 1


def test_a_broken_drawing_is_not_written(tmp_path):
    for rows, _ in [*BROKEN, (np.array([[0.5, 0, 1]]), "")]:
        with pytest.raises(ValueError, match=r"drawing 0 of train is not \(n, 3\) whole numbers"):
            write_npz(tmp_path / "a.npz", {"train": [rows]})
    with pytest.raises(ValueError, match="wanted train, valid or test"):
        write_npz(tmp_path / "a.npz", {"tarin": DRAWINGS})
    assert not list(tmp_path.iterdir())


def test_other_files_say_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"a\.npz: holds 'weights\.npy', wanted any of train, valid and test"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_text("<html>404</html>")
    with pytest.raises(DataError, match=r"b\.npz: truncated or not a zip file .*Download it again"):
        read_npz(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", train=np.zeros(3))
    with pytest.raises(DataError, match=r"shape is \(3,\), wanted \(n, 3\) or \(B, n, 3\)"):
        read_npz(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", train=np.array(["cat"]))
    with pytest.raises(DataError, match="wanted a whole array of numbers"):
        read_npz(tmp_path / "d.npz")
    with pytest.raises(ValueError, match='wanted "raise", "skip" or a function'):
        read_npz(DATA / "cat.npz", on_error="ignore")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.npz", compression=zipfile.ZIP_DEFLATED, train=bytes(8 << 20))
    with pytest.raises(DataError, match="unpacks to 8 MiB from next to nothing"):
        read_npz(path)
    monkeypatch.setattr(npz, "MAX_BYTES", 4 << 20)
    with pytest.raises(DataError, match="unpacks to 8 MiB, wanted at most 4"):
        read_npz(path)
    with pytest.raises(DataError, match="packed in an unusual way"):
        read_npz(archive(tmp_path / "b.npz", compression=zipfile.ZIP_LZMA, train=bytes(1000)))


def test_one_drawing_named_over_and_over_is_refused(tmp_path, monkeypatch):
    big = np.zeros((5000, 3), np.int16)
    np.savez(tmp_path / "a.npz", train=objects([big] * 100))  # numpy writes `big` once
    monkeypatch.setattr(npz, "MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="more numbers than"):
        read_npz(tmp_path / "a.npz")


def test_a_truncated_file_is_never_read_in_part(tmp_path):
    whole = (DATA / "cat.npz").read_bytes()
    path = tmp_path / "cat.npz"
    for length in range(0, len(whole), 101):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cat\.npz: truncated or not a zip file"):
            read_npz(path)


def test_a_truncated_pickle_is_never_read_in_part(tmp_path):
    pickled = pickle.dumps(objects(DRAWINGS), 4)
    for length in range(len(pickled)):
        with pytest.raises(DataError, match=r"train: (truncated or damaged|its) pickle"):
            read_npz(archive(tmp_path / "a.npz", train=npy(pickled[:length])))
    with pytest.raises(DataError, match=r"3 drawings, wanted an array \(4,\)"):
        read_npz(archive(tmp_path / "a.npz", train=npy(pickled, "(4,)")))


def test_damage_is_a_data_error_or_another_drawing(tmp_path):
    """Random bytes changed in the zip, and in the array within: never another exception, never a warning."""
    generator = random.Random(0)
    inner = io.BytesIO()
    np.save(inner, objects(DRAWINGS))
    for content, wrap in (((DATA / "cat.npz").read_bytes(), False), (inner.getvalue(), True)):
        for _ in range(400):
            damaged = bytearray(content)
            for _ in range(generator.randint(1, 4)):
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
            path = tmp_path / "a.npz"
            if wrap:
                archive(path, train=bytes(damaged))
            else:
                path.write_bytes(damaged)
            try:
                drawings = read_npz(path)
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            else:
                assert all(rows.shape[1] == 3 for split in drawings.values() for rows in split)
