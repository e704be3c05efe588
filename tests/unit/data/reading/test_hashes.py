import os

import pytest

from fracture_mae.data.reading import hashes
from fracture_mae.data.reading.hashes import sha256_of

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
LONG_AGO = 1_500_000_000 * 10**9  # nanoseconds


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a, b.jpg"
    path.write_bytes(b"abc")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory" / "hashes.csv"


def test_known_content_and_what_cannot_be_read(file, memory):
    assert sha256_of([str(file), "/nowhere", str(file)], memory, 2) == [ABC, "", ABC]


def test_an_unchanged_file_is_not_read_again(file, memory):
    sha256_of([str(file)], memory, 1)
    file.write_bytes(b"xyz")
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    assert sha256_of([str(file)], memory, 1) == [ABC]


@pytest.mark.parametrize(("content", "changed"), [(b"xyz", LONG_AGO + 1), (b"abcd", LONG_AGO)])
def test_another_time_or_size_is_another_file(file, memory, content, changed):
    sha256_of([str(file)], memory, 1)
    file.write_bytes(content)
    os.utime(file, ns=(changed, changed))
    changed_hash = sha256_of([str(file)], memory, 1)
    assert changed_hash != [ABC]
    assert sha256_of([str(file)], memory, 1) == changed_hash
    remembered = memory.read_text(encoding="utf-8")
    assert changed_hash[0] in remembered
    assert ABC not in remembered


def test_a_file_changed_just_now_is_not_trusted(file, memory):
    os.utime(file)
    stamp = file.stat().st_mtime_ns
    sha256_of([str(file)], memory, 1)
    file.write_bytes(b"xyz")
    os.utime(file, ns=(stamp, stamp))
    assert sha256_of([str(file)], memory, 1) != [ABC]


def test_a_file_that_could_not_be_read_is_tried_again(file, memory, monkeypatch):
    with monkeypatch.context() as without_permission:
        without_permission.setattr(hashes, "_sha256", lambda path: "")
        assert sha256_of([str(file)], memory, 1) == [""]
    assert sha256_of([str(file)], memory, 1) == [ABC]


@pytest.mark.parametrize("damage", [b"", b"\0\0,\n1,2,3\n", b"path,size\na,b\n"])
def test_a_damaged_memory_is_made_anew(file, memory, damage):
    memory.parent.mkdir()
    memory.write_bytes(damage)
    assert sha256_of([str(file)], memory, 1) == [ABC]
    assert ABC in memory.read_text(encoding="utf-8")
