import pytest

from benchmarks.workspace import workspace


def fail_after_writing(root):
    with workspace(root) as folder:
        (folder / "pixels").write_text("many")
        raise ZeroDivisionError


def test_what_is_written_is_gone_in_the_end_even_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_after_writing(tmp_path)
    assert not list(tmp_path.glob("benchmark-*"))


def test_what_a_killed_benchmark_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    left = tmp_path / "benchmark-killed"
    left.mkdir()
    (left / "pixels").write_text("many")
    with workspace(tmp_path) as one:
        assert not left.exists()
        (one / "pixels").write_text("mine")
        with workspace(tmp_path) as other:
            assert one != other
            assert (one / "pixels").read_text() == "mine"
