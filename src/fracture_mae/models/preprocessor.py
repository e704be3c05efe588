"""How the pictures that a checkpoint was trained on were prepared: what its preprocessor_config.json says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fracture_mae.errors import FractureMaeError
from fracture_mae.models.pixels import IMAGENET, Normalisation

FILE = "preprocessor_config.json"
_HALF = [0.5, 0.5, 0.5]  # transformers' own mean and standard deviation where none are told


@dataclass(frozen=True)
class Preprocessor:
    """What was done to pictures.

    Attributes:
        image_size: side that they were brought to [pixels]; None: it is not told.
        normalisation: for pixels in [0, 1].
    """

    image_size: int | None
    normalisation: Normalisation

    @classmethod
    def of(cls, file: Path | None, config: Any) -> "Preprocessor":
        """As the checkpoint's own file says; timm's checkpoints have it in their config; None: ImageNet's normalisation.

        Args:
            file: preprocessor_config.json, or None where the checkpoint has none.
            config: of the network.

        Raises:
            FractureMaeError: the file is damaged, or pictures were not squares.
        """
        n_channels = getattr(config, "num_channels", 3)
        if file is None:
            told = getattr(config, "pretrained_cfg", None) or {}
            size = told.get("input_size", (None,))[-1]
            plain = IMAGENET if n_channels == 3 else Normalisation()
            given = Normalisation(*(tuple(told.get(name, getattr(plain, name))) for name in ("mean", "std")))
            return cls(size, _for_channels(given, n_channels))
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            return cls(_size(told), _for_channels(_normalisation(told), n_channels))
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise FractureMaeError(
                f"{file} cannot be read ({error}): expected is what save_pretrained of an image processor writes. Take a checkpoint "
                "that is whole."
            ) from error


def _size(told: dict[str, Any]) -> int | None:
    """The side that the network sees: of the crop, where one is made, as DINOv2's of 224 from 256 pixels."""
    crop = told.get("crop_size") if told.get("do_center_crop", "crop_size" in told) else None
    size = crop or told.get("size")
    if isinstance(size, dict):
        sides = {size[name] for name in ("height", "width", "shortest_edge") if size.get(name)}
        if len(sides) > 1:
            raise ValueError(f"pictures of {size}; only squares are known")
        size = next(iter(sides), None)
    return int(size) if size else None


def _normalisation(told: dict[str, Any]) -> Normalisation:
    """Of pixels in [0, 1], whatever they were scaled to first.

    EfficientNet's processor divides by the standard deviation twice (`include_top`), which its checkpoints reckon with: they name
    the square root of ImageNet's.
    """
    scale = 255 * told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 255.0
    offset = 1.0 if told.get("rescale_offset") else 0.0
    mean, std = _HALF, _HALF
    if not told.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    else:
        mean, std = told.get("image_mean") or mean, told.get("image_std") or std
    is_efficientnets = str(told.get("image_processor_type", "")).startswith("EfficientNet")
    divided = [value**2 for value in std] if told.get("include_top", is_efficientnets) else std
    return Normalisation(tuple((value + offset) / scale for value in mean), tuple(value / scale for value in divided))


def _for_channels(normalisation: Normalisation, n_channels: int) -> Normalisation:
    """The same for a network of several channels where one value is named for all, or of one where three are."""
    if len(normalisation.mean) == 1:
        return Normalisation(normalisation.mean * n_channels, normalisation.std * n_channels)
    if n_channels == 1:
        grey = (sum(values) / len(values) for values in (normalisation.mean, normalisation.std))
        return Normalisation(*((value,) for value in grey))
    return normalisation
