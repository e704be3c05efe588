"""Checkpoints' own preprocessor_config.json, as transformers writes them."""

import json
from types import SimpleNamespace

import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.models import encoders
from fracture_mae.models.pixels import IMAGENET, Normalisation
from fracture_mae.models.preprocessor import Preprocessor
from tests.unit.models.networks import save_network

COLOUR = SimpleNamespace(num_channels=3)
HALF = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}


def preprocessing_of(folder, told, config=COLOUR):
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(told))
    return Preprocessor.of(file, config)


@pytest.mark.parametrize(
    ("told", "size"),
    [
        # DINOv2 and CLIP: the crop is what the network sees.
        ({"do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}}, 224),
        # EfficientNet names a crop that it does not make.
        (
            {
                "do_center_crop": False,
                "crop_size": {"height": 289, "width": 289},
                "size": {"height": 346, "width": 346},
            },
            346,
        ),
        ({"size": {"height": 224, "width": 224}}, 224),  # ViT, Swin, BEiT
        ({"crop_pct": 0.875, "size": {"shortest_edge": 224}}, 224),  # ConvNeXt
        ({"crop_size": 224, "size": 256}, 224),  # older files
        ({"size": 384}, 384),
        ({}, None),
    ],
)
def test_size_is_that_of_the_picture_that_the_network_sees(tmp_path, told, size):
    assert preprocessing_of(tmp_path, told | HALF).image_size == size


def test_an_encoder_takes_pictures_at_its_preprocessors_size(tmp_path):
    """DINOv2's config says 518, and its preprocessor makes 224."""
    save_network(tmp_path, "dinov2", image_size=128)
    told = HALF | {"crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 80}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    found = encoders.load(str(tmp_path))
    assert (found.image_size, found.grid, found.normalisation) == (64, (4, 4), Normalisation((0.5,) * 3, (0.25,) * 3))
    assert encoders.load(str(tmp_path), 96).image_size == 96
    (tmp_path / "preprocessor_config.json").unlink()
    assert (encoders.load(str(tmp_path)).image_size, found.source) == (128, str(tmp_path))


@pytest.mark.parametrize("processor", ["ViTImageProcessor", "BitImageProcessor", "BeitImageProcessor"])
def test_normalisation_is_the_files(tmp_path, processor):
    found = preprocessing_of(tmp_path, HALF | {"image_processor_type": processor})
    assert found.normalisation == Normalisation((0.5,) * 3, (0.25,) * 3)


def test_without_a_file_it_is_imagenets_or_timms_own():
    assert Preprocessor.of(None, COLOUR) == Preprocessor(None, IMAGENET)
    assert Preprocessor.of(None, SimpleNamespace(num_channels=1)) == Preprocessor(None, Normalisation())
    told = {"mean": [0.1] * 3, "std": [0.2] * 3, "input_size": [3, 288, 288]}
    timms = Preprocessor.of(None, SimpleNamespace(pretrained_cfg=told))
    assert timms == Preprocessor(288, Normalisation((0.1,) * 3, (0.2,) * 3))


def test_efficientnet_divides_by_the_deviation_twice(tmp_path):
    """google/efficientnet-b0 names the square root of ImageNet's."""
    told = {
        "image_processor_type": "EfficientNetImageProcessor",
        "image_mean": [0.485] * 3,
        "image_std": [0.47853944] * 3,
    }
    assert preprocessing_of(tmp_path, told).normalisation.std == pytest.approx([0.229] * 3, abs=1e-6)
    once = preprocessing_of(tmp_path, told | {"include_top": False})
    assert once.normalisation.std == pytest.approx([0.47853944] * 3)


def test_other_scales_of_pixels_by_hand(tmp_path):
    """Pixels from 0 to 255 mapped to [-1, 1] are (p - 0.5) / 0.5 for p in [0, 1]."""
    told = {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}
    found = preprocessing_of(tmp_path, told).normalisation
    assert (found.mean, found.std) == (pytest.approx([0.5] * 3), pytest.approx([0.5] * 3))
    raw = preprocessing_of(
        tmp_path, {"do_rescale": False, "image_mean": [127] * 3, "image_std": [128] * 3}
    ).normalisation
    assert (raw.mean, raw.std) == (pytest.approx([127 / 255] * 3), pytest.approx([128 / 255] * 3))


@pytest.mark.parametrize("told", [{"size": {"height": 224, "width": 448}}, {"size": "large"}, []])
def test_what_cannot_be_read_is_said(tmp_path, told):
    with pytest.raises(FractureMaeError, match=r"preprocessor_config\.json cannot be read"):
        preprocessing_of(tmp_path, told)
