import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import ViTMAEConfig

from fracture_mae.errors import FractureMaeError
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models.autoencoder import Mae, mean_of_visible, noise_of, squared_error
from fracture_mae.models.pixels import IMAGENET, Normalisation

POSITIONS = ("vit.embeddings.position_embeddings", "decoder.decoder_pos_embed")


def position_embeddings(mae):
    state = mae.network.state_dict(keep_vars=True)
    return [state[name] for name in POSITIONS]


def random_pixels(mae, n=2):
    return torch.rand(n, 1, mae.image_size, mae.image_size, generator=torch.Generator().manual_seed(0))


def random_noise(mae, n=2, seed=0):
    return torch.rand(n, mae.n_patches, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def folder(tiny_mae, tmp_path):
    """The tiny network as `save` writes it, with a normalisation of its own."""
    tiny_mae.normalisation = Normalisation((0.3,), (0.2,))
    mae_model.save(tiny_mae, tmp_path / "saved")
    return tmp_path / "saved"


def test_positions_of_a_random_start_are_sines_and_cosines_of_column_then_row(tiny_mae):
    # 16 features: 4 frequencies 1, 0.1, 0.01, 0.001 [radians per patch], each as sine and cosine, for column and for row.
    column_3 = [0.14112, 0.29552, 0.0299955, 0.003, -0.98999, 0.95534, 0.99955, 0.9999955]
    row_1 = [0.84147, 0.0998334, 0.00999983, 0.001, 0.54030, 0.99500, 0.99995, 0.9999995]
    for positions in position_embeddings(tiny_mae):
        assert positions.shape == (1, 17, 16)
        assert not positions[0, 0].any()  # CLS has no place
        assert_close(positions[0, 1 + 1 * 4 + 3], torch.tensor(column_3 + row_1), rtol=0, atol=1e-5)
        assert not positions.requires_grad


def test_a_random_start_sets_all_that_transformers_leaves_at_zero(tiny_mae):
    network = tiny_mae.network
    for token in (network.vit.embeddings.cls_token, network.decoder.mask_token):
        assert 0.01 < token.std() < 0.04
        assert token.requires_grad
    query = network.vit.layers[0].attention.q_proj
    bound = math.sqrt(6 / (16 + 16))  # Xavier: uniform in ±sqrt(6 / (inputs + outputs))
    assert 0.9 * bound < query.weight.abs().max() <= bound
    assert not query.bias.any()
    projection = network.vit.embeddings.patch_embeddings.projection.weight
    bound = math.sqrt(6 / (8 * 8 + 16))
    assert 0.9 * bound < projection.abs().max() <= bound


def test_a_preset_depends_on_its_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (mae_model.load("vit-mae-nano", image_size=64, seed=seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected  # the global generator stays where it was
    token, same, different = (mae.network.vit.embeddings.cls_token for mae in (first, again, other))
    assert token.equal(same)
    assert not token.equal(different)
    assert first.n_patches == 16


def relative_error_after_training(mae):
    ramp = torch.linspace(0, 1, mae.image_size).expand(1, 1, mae.image_size, mae.image_size)
    pictures = torch.cat([ramp, 0.5 * ramp, 0.25 + 0.5 * ramp, 0.2 + 0.8 * ramp])
    optimizer = torch.optim.AdamW(mae.parameters(), lr=3e-3)
    for seed in range(40):
        prediction, target, mask = mae(pictures, random_noise(mae, 4, seed), 0.75)
        squared_error(prediction, target, mask, "masked").mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        prediction, target, mask = mae(pictures.repeat(8, 1, 1, 1), random_noise(mae, 32, 99), 0.75)
    error = squared_error(prediction, target, mask, "masked").mean()
    return (error / squared_error(mean_of_visible(target, mask), target, mask, "masked").mean()).item()


def test_a_random_start_learns_where_patches_are():
    assert relative_error_after_training(mae_model.load("vit-mae-nano", image_size=64)) < 0.3


def test_without_positions_nothing_but_the_mean_is_learned():
    """Guards the test above: it must not pass for a network that transformers built from a config."""
    mae = mae_model.load("vit-mae-nano", image_size=64)
    for positions in position_embeddings(mae):
        positions.data.zero_()
    assert relative_error_after_training(mae) > 0.6


def test_save_and_load_give_the_same_network(tiny_mae, folder):
    loaded = mae_model.load(str(folder))
    assert loaded.normalisation == Normalisation((0.3,), (0.2,))
    assert (loaded.image_size, loaded.n_patches) == (32, 16)
    pixels, noise = random_pixels(tiny_mae), random_noise(tiny_mae)
    for expected, found in zip(tiny_mae(pixels, noise, 0.75), loaded(pixels, noise, 0.75), strict=True):
        assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("how", [None, "letterbox", "film"])
def test_the_preprocessing_is_kept(tiny_mae, tmp_path, how):
    tiny_mae.preprocess = how
    mae_model.save(tiny_mae, tmp_path)
    assert mae_model.load(str(tmp_path)).preprocess == how


def test_checkpoints_of_others_state_no_preprocessing(folder):
    described = json.loads((folder / "preprocessor_config.json").read_text())
    del described["xray_preprocess"]
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    assert mae_model.load(str(folder)).preprocess is None
    (folder / "preprocessor_config.json").unlink()
    assert mae_model.load(str(folder)).preprocess is None


def test_a_preprocessing_that_is_not_known_is_refused(tiny_mae, tmp_path):
    tiny_mae.preprocess = "sepia"
    mae_model.save(tiny_mae, tmp_path)
    with pytest.raises(
        FractureMaeError, match="preprocessed by 'sepia', but known are letterbox, film, film_equalised"
    ):
        mae_model.load(str(tmp_path))


def test_a_folder_in_the_home_directory(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert mae_model.load("~/saved").source == str(folder)


def test_without_a_preprocessor_the_channels_decide(folder):
    (folder / "preprocessor_config.json").unlink()
    assert mae_model.load(str(folder)).normalisation == Normalisation()
    assert mae_model.load_normalisation(str(folder), 3) == IMAGENET


def test_a_damaged_preprocessor_is_not_replaced_by_a_default(folder):
    (folder / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(FractureMaeError, match=r"preprocessor_config\.json"):
        mae_model.load(str(folder))


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def change_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def cut_in_half(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: change_weights(folder, lambda state: state[POSITIONS[0]].zero_()), "position embeddings"),
        (lambda folder: change_weights(folder, lambda state: state[POSITIONS[1]].zero_()), "position embeddings"),
        (lambda folder: change_weights(folder, lambda state: state.pop("decoder.mask_token")), r"lacks 1 .*mask_token"),
        (
            lambda folder: change_weights(folder, lambda state: state.pop("vit.embeddings.cls_token")),
            "lacks 1 .*cls_token",
        ),
        (lambda folder: change_config(folder, image_size=[32, 32]), "only squares"),
        (lambda folder: change_config(folder, model_type="vit"), "'vit'.*'vit_mae' is needed"),
        (lambda folder: change_config(folder, hidden_size=32), "do not fit"),
        (cut_in_half, "damaged"),
    ],
    ids=[
        "encoder positions",
        "decoder positions",
        "missing",
        "missing in the encoder",
        "pairs",
        "model_type",
        "another width",
        "cut",
    ],
)
def test_load_refuses(folder, spoil, message):
    spoil(folder)
    with pytest.raises(FractureMaeError, match=message):
        mae_model.load(str(folder))


def test_another_image_size(folder):
    original, resized = mae_model.load(str(folder)), mae_model.load(str(folder), image_size=64)
    assert (resized.image_size, resized.n_patches) == (64, 64)
    for old, new in zip(position_embeddings(original), position_embeddings(resized), strict=True):
        assert new.shape == (1, 65, 16)
        assert new[:, 0].equal(old[:, 0])
        assert not new.requires_grad
    for name, value in original.network.state_dict().items():
        assert name in POSITIONS or value.equal(resized.network.state_dict()[name])
    assert resized(random_pixels(resized), random_noise(resized), 0.75)[0].shape == (2, 64, 64)
    with pytest.raises(
        FractureMaeError, match=r"images of 68 pixels do not fall into the patches of 8 pixels .* such as 64"
    ):
        mae_model.load(str(folder), image_size=68)


def test_normalisation_by_hand():
    grey = torch.full((1, 1, 1, 1), 0.5)
    assert_close(IMAGENET.apply(grey).flatten(), torch.tensor([0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225]))
    two = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    assert Normalisation((0.0, 0.5), (1.0, 2.0)).invert(two).item() == (1.0 + 6.5) / 2
    pixels = torch.rand(2, 1, 4, 4)
    assert_close(IMAGENET.invert(IMAGENET.apply(pixels)), pixels)


def test_errors_by_hand():
    target = torch.tensor([[[1.0, 3.0], [2.0, 2.0], [0.0, 4.0]]]).repeat(2, 1, 1)  # squares' means: 5, 4, 8
    mask = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    zero = torch.zeros_like(target)
    assert squared_error(zero, target, mask, "masked").tolist() == [6.0, 5.0]
    assert_close(squared_error(zero, target, mask, "all"), torch.tensor([17 / 3, 17 / 3]))
    mask = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    target[1, 2] = torch.tensor([5.0, 7.0])
    assert mean_of_visible(target, mask).flatten().tolist() == [2.0, 4.0]  # of 1, 3; of 1, 3, 5, 7


def test_noise_depends_on_content_and_seed_alone():
    first, second, third = (digit * 64 for digit in "3ac")
    noise = noise_of([first, second], 16, seed=0)
    assert noise.shape == (2, 16)
    assert noise.dtype == torch.float32
    assert noise_of([third, second, first], 16, seed=0)[[2, 1]].equal(noise)
    assert not noise_of([first], 16, seed=1).equal(noise[:1])
    assert not noise[0].equal(noise[1])


@pytest.mark.parametrize(("mask_ratio", "hidden"), [(0.75, 12), (0.5, 8), (0.9375, 15)])
def test_patches_with_the_lowest_noise_stay_visible(tiny_mae, mask_ratio, hidden):
    noise = random_noise(tiny_mae, 3)
    mask = tiny_mae(random_pixels(tiny_mae, 3), noise, mask_ratio)[2]
    assert mask.sum(dim=1).tolist() == [hidden] * 3
    assert mask.equal((noise.argsort(dim=1).argsort(dim=1) >= 16 - hidden).float())


def test_a_mask_that_hides_everything_is_refused(tiny_mae):
    with pytest.raises(FractureMaeError, match="hides all 16 patches"):
        tiny_mae(random_pixels(tiny_mae), random_noise(tiny_mae), 0.95)


def test_the_prediction_does_not_see_what_is_hidden(tiny_mae):
    pixels, noise = random_pixels(tiny_mae), random_noise(tiny_mae)
    prediction, _, mask = tiny_mae(pixels, noise, 0.75)
    hidden = tiny_mae.mask_to_pixels(mask)
    assert tiny_mae(pixels * (1 - hidden), noise, 0.75)[0].equal(prediction)
    assert not tiny_mae(pixels * hidden, noise, 0.75)[0].equal(prediction)


def test_normalised_patches_by_hand():
    patches = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 3.0], [5.0, 5.0, 5.0]]])
    # Means 2, 1, 5; variances with N - 1: 1, 3, 0, to each of which 1e-6 is added.
    expected = torch.tensor([[[-1.0, 0.0, 1.0], [-1 / 3**0.5, -1 / 3**0.5, 2 / 3**0.5], [0.0, 0.0, 0.0]]])
    assert_close(mae_model.normalised_patches(patches), expected, rtol=0, atol=1e-6)


def test_the_loss_with_norm_pix_loss_is_that_of_transformers(tiny_mae):
    tiny_mae.norm_pix_loss = True
    pixels, noise = random_pixels(tiny_mae), random_noise(tiny_mae)
    prediction, target, mask = tiny_mae(pixels, noise, 0.75)
    with torch.no_grad():
        expected = tiny_mae.network(tiny_mae.normalisation.apply(pixels), noise=noise)
    assert_close(squared_error(prediction, target, mask, "masked").mean(), expected.loss, rtol=1e-5, atol=0)
    assert_close(prediction, expected.logits, rtol=0, atol=1e-5)


def test_a_perfect_prediction_of_normalised_patches_is_the_picture(tiny_mae):
    pixels, noise = random_pixels(tiny_mae), random_noise(tiny_mae)
    plain, patches, _ = tiny_mae(pixels, noise, 0.75)
    assert tiny_mae.in_input_units(plain, patches) is plain
    tiny_mae.norm_pix_loss = True
    _, target, _ = tiny_mae(pixels, noise, 0.75)
    assert not torch.allclose(target, patches)
    assert_close(tiny_mae.to_pixels(tiny_mae.in_input_units(target, tiny_mae.patches(pixels))), pixels)
    means = patches.mean(dim=2, keepdim=True).expand_as(patches)
    assert_close(tiny_mae.in_input_units(torch.zeros_like(target), patches), means)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_target_to_pixels_is_the_picture(tiny_mae, num_channels):
    config = ViTMAEConfig(**tiny_mae.network.config.to_dict() | {"num_channels": num_channels})
    normalisation = IMAGENET if num_channels == 3 else Normalisation()
    mae = Mae(mae_model.random_start(config, 0), normalisation, "made")
    pixels = random_pixels(mae)
    prediction, target, _ = mae(pixels, random_noise(mae), 0.75)
    assert prediction.shape == target.shape == (2, 16, 64 * num_channels)
    assert_close(mae.to_pixels(target), pixels)
    assert mae.to_pixels(target + 100).eq(1).all()  # clipped


def test_mask_to_pixels(tiny_mae):
    mask = torch.zeros(1, 16)
    mask[0, 1 * 4 + 2] = 1  # row 1, column 2
    expected = torch.zeros(1, 1, 32, 32)
    expected[..., 8:16, 16:24] = 1
    assert tiny_mae.mask_to_pixels(mask).equal(expected)


def test_in_bf16_layers_add_in_bf16_and_the_loss_is_float32(tiny_mae):
    seen = []
    for layer in (tiny_mae.network.vit.layers[1], tiny_mae.network.decoder.decoder_layers[0]):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    pixels, noise = random_pixels(tiny_mae), random_noise(tiny_mae)
    exact, *_ = tiny_mae(pixels, noise, 0.75)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, target, _ = tiny_mae(pixels, noise, 0.75)
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert rounded.dtype == target.dtype == torch.float32
    assert_close(rounded, exact, rtol=0, atol=0.05 * exact.std().item())


def test_position_embeddings_are_fixed_wherever_the_network_comes_from(folder, tiny_mae):
    found = (
        tiny_mae,
        mae_model.load("vit-mae-nano"),
        mae_model.load(str(folder)),
        mae_model.load(str(folder), image_size=64),
    )
    for mae in found:
        assert [name for name, value in mae.network.named_parameters() if not value.requires_grad] == list(POSITIONS)
