import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.stages.journal import Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "below" / "journal.jsonl"


def test_rows_are_there_for_the_next_process(path):
    with Journal(path, resume=True) as journal:
        assert journal.rows() == []
        journal.add([{"path": "a"}, {"path": "b\n\udcff"}])
    with Journal(path, resume=True) as journal:
        journal.add([{"path": "c"}])
        assert [row["path"] for row in journal.rows()] == ["a", "b\n\udcff", "c"]


def test_a_row_that_was_cut_off_is_passed_over(path):
    with Journal(path, resume=True) as journal:
        journal.add([{"path": "a"}, {"path": "b"}])
    path.write_bytes(path.read_bytes()[:-4])
    with Journal(path, resume=True) as journal:
        assert journal.rows() == [{"path": "a"}]
        journal.add([{"path": "c"}])
        assert journal.rows() == [{"path": "a"}, {"path": "c"}]


def test_it_begins_anew_where_that_is_asked_for(path):
    with Journal(path, resume=True) as journal:
        journal.add([{"path": "a"}])
    with Journal(path, resume=False) as journal:
        assert journal.rows() == []


def test_two_at_the_same_work_are_refused(path):
    with (
        Journal(path, resume=True),
        pytest.raises(FractureMaeError, match="another process is predicting"),
        Journal(path, resume=True),
    ):
        pass
