import pytest

from fracture_mae.config import FinetuneMae, ReconstructBaseline, TrainClassifier
from fracture_mae.errors import FractureMaeError
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.stages import reconstruct, start


class Remembering:
    """Stands for a run."""

    def __init__(self):
        self.configs, self.all_tags = [], {}

    def config(self, config):
        self.configs.append(config)

    def tags(self, tags):
        self.all_tags |= tags


@pytest.fixture
def run():
    return Remembering()


def settled_line(config, mae, run, capsys, **known):
    settled = start.settle(config, mae, run, **known)
    assert run.configs == [settled]
    return settled, capsys.readouterr().out


def test_a_preset_starts_with_the_rate_of_a_random_start(tiny_mae, run, capsys):
    tiny_mae.source = "preset vit-mae-tiny, random weights"
    settled, line = settled_line(FinetuneMae(), tiny_mae, run, capsys)
    assert line == "start: preset vit-mae-tiny, random weights → learning_rate 0.001 = 0.008 · 32/256\n"
    assert settled.learning_rate == 1e-3
    assert run.all_tags["start"] == "random"


def test_weights_start_with_that_of_he_et_al(tiny_mae, run, capsys, tmp_path):
    mae_model.save(tiny_mae, tmp_path / "pretrained")
    loaded = mae_model.load(str(tmp_path / "pretrained"))
    settled, line = settled_line(FinetuneMae(), loaded, run, capsys, norm_pix_loss=True)
    assert line == f"start: weights of {tmp_path}/pretrained → learning_rate 1.9e-05 = 0.00015 · 32/256\n"
    assert (settled.learning_rate, settled.beta2, settled.norm_pix_loss) == (1.875e-5, 0.95, True)
    told = {"start": "weights", "start.recipe": "learning_rate 1.9e-05 = 0.00015 · 32/256", "start.new_decoder": False}
    assert run.all_tags == told


@pytest.mark.parametrize(
    ("began", "words", "head"),
    [("random", "random weights", ""), ("weights", "pretrained weights", "; head: a linear probe")],
)
def test_of_a_registered_model_it_is_told_what_it_began_as(tiny_mae, run, capsys, began, words, head):
    tiny_mae.source, tiny_mae.start = "models:/xray-mae/3", began
    _, line = settled_line(TrainClassifier(learning_rate=3e-4), tiny_mae, run, capsys)
    assert line == f"start: models:/xray-mae/3, which began as {words} → learning_rate 0.0003, as given{head}\n"


def test_a_new_decoder_is_told(tiny_mae, run, capsys, tmp_path):
    tiny_mae.network.vit.save_pretrained(tmp_path)
    _, line = settled_line(FinetuneMae(), mae_model.load(str(tmp_path)), run, capsys)
    assert f"weights of {tmp_path}; its decoder is new, of random weights, as it comes without one" in line
    assert run.all_tags["start.new_decoder"] is True


def test_nothing_can_be_rebuilt_without_a_decoder(tiny_mae, run, tmp_path):
    tiny_mae.network.vit.save_pretrained(tmp_path)
    with pytest.raises(FractureMaeError, match="holds an encoder alone"):
        reconstruct.reconstruct_baseline(ReconstructBaseline(model=str(tmp_path), device="cpu", precision="fp32"), run)


def test_figures_say_whose_patches_owe_something_to_the_xray(tiny_mae, dataset, accelerator):
    examples = reconstruct.Examples(dataset, FinetuneMae(n_figures=2), accelerator)
    examples.rebuild(tiny_mae, "baseline")
    tiny_mae.norm_pix_loss = True
    examples.rebuild(tiny_mae, "fine-tuned")
    owed = {
        "baseline": "",
        "fine-tuned": "fine-tuned by the true",
        "side_by_side": "fine-tuned by the true patches' mean",
    }
    for path, figure in examples.figures().items():
        title = figure.get_suptitle()
        words = owed[path.removeprefix("reconstructions/").removesuffix(".png")]
        assert ("mean and deviation" in title) == bool(words)
        assert words in title
