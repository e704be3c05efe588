import errno
import os

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from fracture_mae.data.reading.cache_folder import shortage
from fracture_mae.errors import FractureMaeError
from fracture_mae.training import checkpoints as checkpoints_module
from fracture_mae.training.checkpoints import Checkpoints, NoCheckpoints
from fracture_mae.training.schedule import Progress


class Training:
    """A model of one weight, as a process that is at its training has it."""

    def __init__(self, root, weight=0.0, **options):
        self.model = nn.Linear(1, 1, bias=False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.weight = weight
        self.checkpoints = Checkpoints(root, "training", **{"resume": True} | options)

    @property
    def weight(self):
        return self.model.weight.item()

    @weight.setter
    def weight(self, value):
        self.model.weight.data.fill_(value)

    def write(self, epoch, keep):
        progress = Progress([{"m": 0.5}] * epoch, kept_epoch=1, run_ids=["first"])
        self.checkpoints.write(self.model, self.optimizer, progress, keep=keep)

    def offer(self, epoch, keep, is_last=False):
        progress = Progress([{"m": 0.5}] * epoch, kept_epoch=1, run_ids=["first"])
        self.checkpoints.offer(self.model, self.optimizer, progress, keep=keep, is_last=is_last)

    def restore(self):
        return self.checkpoints.restore(self.model, self.optimizer)


def names_in(folder):
    return sorted(each.name for each in folder.iterdir())


def test_without_a_checkpoint_there_is_no_progress(tmp_path):
    training = Training(tmp_path, weight=3.0, run_id="first")
    with training.checkpoints:
        assert training.restore() == Progress([], 0, ["first"])
    assert training.weight == 3.0


def test_restoring_brings_weights_optimizer_and_progress_back(tmp_path):
    first = Training(tmp_path)
    first.model(torch.ones(1, 1)).backward()
    first.optimizer.step()
    with first.checkpoints:
        first.write(epoch=2, keep=True)

    second = Training(tmp_path, weight=7.0, run_id="second")
    with second.checkpoints:
        progress = second.restore()
    assert progress == Progress([{"m": 0.5}] * 2, 1, ["first", "second"])
    assert second.weight == first.weight != 0
    (moments,), (expected,) = (training.optimizer.state_dict()["state"].values() for training in (second, first))
    assert moments["step"] == 1
    assert moments["exp_avg"].item() == expected["exp_avg"].item() == pytest.approx(0.1)  # (1 - 0.9) · gradient


def test_kept_weights_stay_while_training_goes_on(tmp_path):
    training = Training(tmp_path, weight=1.0)
    with training.checkpoints as kept:
        training.write(epoch=1, keep=True)
        for epoch in (2, 3):
            training.weight = epoch
            training.write(epoch, keep=False)
        assert names_in(kept.folder) == ["epoch-000002", "epoch-000003"]  # one to fall back on
        kept.load_kept(training.model)
        assert training.weight == 1.0
        training.restore()
        assert training.weight == 3.0
        training.write(epoch=4, keep=True)
        kept.load_kept(training.model)
        assert training.weight == 3.0


class Death(BaseException):
    pass


def dying(function, *, after):
    def die(*args, **kwargs):
        if after:
            function(*args, **kwargs)
        raise Death

    return die


@pytest.mark.parametrize(
    ("owner", "name", "after", "last"),
    [
        (torch, "save", False, 1),
        (torch, "save", True, 1),
        (checkpoints_module, "save_file", False, 1),
        (checkpoints_module, "save_file", True, 1),
        (os, "replace", False, 1),
        (os, "replace", True, 2),
    ],
)
def test_a_death_while_writing_leaves_one_whole_checkpoint(tmp_path, monkeypatch, owner, name, after, last):
    training = Training(tmp_path, weight=1.0)
    with training.checkpoints:
        training.write(epoch=1, keep=True)
        training.weight = 2.0
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, dying(getattr(owner, name), after=after))
            with pytest.raises(Death):
                training.write(epoch=2, keep=True)

    again = Training(tmp_path)
    with again.checkpoints as kept:
        assert again.restore().epochs_done == last
        assert again.weight == last
        kept.load_kept(again.model)
        assert again.weight == last
        again.write(epoch=last + 1, keep=False)
        assert names_in(kept.folder) == [f"epoch-00000{last}", f"epoch-00000{last + 1}"]


def cut(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def zeroed(file):
    """As a power cut leaves what did not reach the disk: as long as it was, and empty from the middle on."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


DAMAGES = {
    "cut to nothing": lambda file: cut(file, 0),
    "cut to half": lambda file: cut(file, 0.5),
    "zeros": zeroed,
    "gone": lambda file: file.unlink(),
}
FILES = ["model.safetensors", "kept.safetensors", "optimizer.bin", "progress.json", "sha256.json"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_from_a_damaged_checkpoint_training_falls_back_by_one_epoch(tmp_path, caplog, name, damage):
    training = Training(tmp_path, weight=1.0)
    with training.checkpoints as kept:
        training.write(epoch=1, keep=True)
        training.weight = 2.0
        training.write(epoch=2, keep=False)
        DAMAGES[damage](kept.folder / "epoch-000002" / name)

    again = Training(tmp_path, weight=7.0, run_id="second")
    with again.checkpoints as kept:
        progress = again.restore()
        if (name, damage) == ("sha256.json", "gone"):  # as of earlier versions, which wrote none
            assert (progress.epochs_done, again.weight) == (2, 2.0)
            return
        assert (progress.epochs_done, again.weight) == (1, 1.0)
        assert names_in(kept.folder) == ["epoch-000001"]
        kept.load_kept(again.model)
        assert again.weight == 1.0
    assert "epoch-000002 is damaged" in caplog.text
    assert "goes on from epoch-000001" in caplog.text
    assert "--resume never" in caplog.text


def test_where_no_checkpoint_is_whole_training_begins_again_and_says_so(tmp_path, caplog):
    training = Training(tmp_path, weight=1.0)
    with training.checkpoints as kept:
        for epoch in (1, 2):
            training.write(epoch, keep=True)
            cut(kept.folder / f"epoch-00000{epoch}" / "model.safetensors", 0.5)
    again = Training(tmp_path, weight=7.0, run_id="second")
    with again.checkpoints:
        assert again.restore() == Progress([], 0, ["second"])
    assert again.weight == 7.0
    assert "goes on from the beginning" in caplog.text


def test_a_damaged_result_is_no_result(tmp_path, caplog):
    with Checkpoints(tmp_path, "training", resume=True) as kept:
        kept.finish({"a": 1})
        assert kept.result() == {"a": 1}
        cut(kept.folder / "result.json", 0.5)
        assert kept.result() is None
    assert "result.json is damaged" in caplog.text


def test_an_epoch_is_on_the_disk_before_an_earlier_one_is_removed(tmp_path, monkeypatch):
    training, order = Training(tmp_path, weight=1.0), []
    with training.checkpoints:
        for epoch in (1, 2):
            training.write(epoch, keep=True)
        for owner, name in ((os, "fsync"), (os, "replace"), (checkpoints_module.shutil, "rmtree")):
            real = getattr(owner, name)

            def noted(*args, _real=real, _name=name, **options):
                if not options:  # of what a killed process left behind, removed before all else
                    order.append(_name)
                return _real(*args, **options)

            monkeypatch.setattr(owner, name, noted)
        training.write(epoch=3, keep=True)
    assert order == ["fsync"] * (len(FILES) + 1) + ["replace", "fsync", "rmtree"]


def test_without_hard_links_kept_weights_are_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    training = Training(tmp_path, weight=1.0)
    with training.checkpoints as kept:
        training.write(epoch=1, keep=True)
        training.weight = 2.0
        training.write(epoch=2, keep=False)
        kept.load_kept(training.model)
    assert training.weight == 1.0


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (checkpoints_module, "save_file", SafetensorError("I/O error: No space left on device (os error 28)")),
        (torch, "save", RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")),
        (os, "fsync", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_on_a_full_disk_the_last_whole_checkpoint_stays_and_nothing_beside_it(
    tmp_path, monkeypatch, owner, name, error
):
    def full(*_, **__):
        raise error

    training = Training(tmp_path, weight=1.0)
    with training.checkpoints as kept:
        training.write(epoch=1, keep=True)
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            with pytest.raises(type(error)) as caught:
                training.write(epoch=2, keep=True)
        assert names_in(kept.folder) == ["epoch-000001"]
        assert training.restore().epochs_done == 1
    assert "FRACTURE_MAE_CACHE" in str(shortage(caught.value))


def test_never_resuming_removes_earlier_checkpoints(tmp_path):
    training = Training(tmp_path, weight=1.0)
    with training.checkpoints:
        training.write(epoch=1, keep=True)
    anew = Training(tmp_path, weight=5.0, resume=False, run_id="second")
    with anew.checkpoints as kept:
        assert anew.restore() == Progress([], 0, ["second"])
        assert anew.weight == 5.0
        assert not list(kept.folder.iterdir())


def test_a_second_training_of_the_same_is_refused(tmp_path):
    def enter(name):
        with Checkpoints(tmp_path, name, resume=True):
            return True

    with Checkpoints(tmp_path, "training", resume=True):
        assert enter("another")
        with pytest.raises(FractureMaeError, match=r"another process.*--seed"):
            enter("training")
    assert enter("training")


def test_remove_forgets_the_training(tmp_path):
    training = Training(tmp_path)
    with training.checkpoints as kept:
        training.write(epoch=1, keep=True)
        kept.remove()
    with training.checkpoints:
        assert training.restore().epochs_done == 0


def test_a_result_stands_in_for_the_checkpoints_of_a_finished_training(tmp_path):
    training = Training(tmp_path)
    with training.checkpoints as kept:
        assert kept.result() is None
        training.write(1, keep=True)
        kept.finish({"logit": {"a": 0.1 + 0.2}})
        assert [file.name for file in kept.folder.iterdir()] == ["result.json"]
    with Training(tmp_path).checkpoints as kept:
        assert kept.result() == {"logit": {"a": 0.1 + 0.2}}  # to the last bit
    with Training(tmp_path, resume=False).checkpoints as anew:
        assert anew.result() is None
        anew.restore(training.model, training.optimizer)
    with Training(tmp_path).checkpoints as kept:
        assert kept.result() is None


def test_a_process_that_is_not_the_first_neither_reads_nor_writes(tmp_path):
    first, other = Training(tmp_path, weight=1.0), Training(tmp_path, weight=5.0)
    with first.checkpoints:
        first.write(epoch=1, keep=True)
    before = sorted(tmp_path.rglob("*"))
    other.checkpoints = NoCheckpoints()
    with first.checkpoints, other.checkpoints as nothing:  # the lock is the first one's
        assert other.restore() == Progress()
        other.offer(epoch=2, keep=True, is_last=True)
        nothing.load_kept(other.model)
        nothing.finish({"logit": {}})
        assert nothing.result() is None
        nothing.remove()
    assert other.weight == 5.0
    assert sorted(tmp_path.rglob("*")) == before


class Disk:
    """Lets writing take so many seconds, by a clock of its own."""

    def __init__(self, monkeypatch, checkpoints, seconds):
        self.now, self.seconds, self.epochs = 0.0, seconds, []
        monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: self.now)
        self._really = checkpoints.write
        checkpoints.write = self._write

    def _write(self, model, optimizer, progress, *, keep):
        self.now += self.seconds
        self.epochs.append(progress.epochs_done)
        self._really(model, optimizer, progress, keep=keep)


@pytest.mark.parametrize(("seconds", "written"), [(0.9, range(1, 31)), (2.0, [1, 12, 23, 30])])
def test_checkpoints_that_take_long_take_a_tenth_of_the_time(tmp_path, monkeypatch, seconds, written):
    training = Training(tmp_path)
    disk = Disk(monkeypatch, training.checkpoints, seconds)
    with training.checkpoints:
        for epoch in range(1, 31):
            disk.now += 1.9  # of training; 11 such epochs are 20.9 s
            training.offer(epoch, keep=True, is_last=epoch == 30)
    assert disk.epochs == list(written)


def test_weights_to_keep_of_an_epoch_that_is_not_written_are_written_later(tmp_path, monkeypatch):
    training = Training(tmp_path)
    disk = Disk(monkeypatch, training.checkpoints, 5.0)
    with training.checkpoints as kept:
        for epoch, keep in enumerate([True, False, True, False, False], start=1):
            training.weight = epoch
            training.offer(epoch, keep, is_last=epoch == 5)
        assert disk.epochs == [1, 5]
        kept.load_kept(training.model)
        assert training.weight == 3.0
        assert training.restore().epochs_done == 5
        assert training.weight == 5.0
        training.offer(6, keep=False, is_last=True)
        kept.load_kept(training.model)
        assert training.weight == 3.0
