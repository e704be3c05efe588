"""X-rays from arrays and a tiny network, for tests that need no files and no real weights."""

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from fracture_mae.data import boxes
from fracture_mae.data.shown import WITH_LABEL, Shown
from fracture_mae.data.types import Dataset, Leakage, XRays

SIDE = 32  # pixels
LABEL = np.tile([0, 1], 30)
# A faultless classifier, one that knows nothing, and one that is always wrong.
PERFECT, RANDOM, WRONG = 0.1 + 0.8 * LABEL, np.tile([0.4, 0.4, 0.6, 0.6], 15), 0.9 - 0.8 * LABEL


def tiny_mae():
    """16 patches of 8 × 8 pixels, grey, two encoder layers 16 wide."""
    # Imported here, because tests of the data need no torch, which takes seconds.
    from transformers import ViTMAEConfig

    from fracture_mae.models.autoencoder import Mae, random_start
    from fracture_mae.models.pixels import Normalisation

    config = ViTMAEConfig(
        image_size=SIDE,
        patch_size=8,
        num_channels=1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    return Mae(random_start(config, seed=0), Normalisation(), "tiny")


def tiny_encoder():
    """That of `tiny_mae`."""
    from fracture_mae.models.encoders import MaeEncoder

    return MaeEncoder.of(tiny_mae())


def xrays(name, label, group=None):
    """A bright bone on black in each, which a dark line breaks where the label is 1; each of its own group unless told."""
    label = np.asarray(label)
    group = np.arange(len(label)) if group is None else group
    pixels = np.random.default_rng(list(name.encode())).integers(0, 40, (len(label), SIDE, SIDE), dtype=np.uint8)
    pixels[:, :, 10:22] += 180
    pixels[label == 1, 14:18] = 0
    table = pd.DataFrame(
        {
            "path": [f"/{name}/{i}.png" for i in range(len(label))],
            "label": label,
            "label_name": np.where(label == 1, "fractured", "not fractured"),
            "sha256": [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels],
            "bytes": SIDE**2,
            "height": SIDE,
            "width": SIDE,
            "scale_x": 1.0,
            "scale_y": 1.0,
            "left": 0.0,
            "top": 0.0,
            "preprocess": "letterbox",
            "format": "PNG",
            "channels": 1,
            "bit_depth": 8,
            "jpeg_quality": 101.0,
            "jpeg_deviation": 0.0,
            "group": [f"{name}-{member}" for member in group],
            "source": "made",
            "patient": [f"{name}-{member}" for member in group],
        }
    )
    return XRays(name, table, pixels, np.arange(len(label)))


def squares(name, n, n_boxed=None):
    """X-rays of noise, every second one with a bright square of 7 pixels anywhere, which makes it fractured, and a box around it.

    Args:
        n_boxed: how many have boxes, the first ones; None: all.
    """
    made = xrays(name, np.arange(n) % 2)
    rng = np.random.default_rng(list(name.encode()))
    made.pixels[:] = rng.integers(0, 120, made.pixels.shape, dtype=np.uint8)
    texts = [""] * n
    for i in range(1, n, 2):
        y, x = rng.integers(0, SIDE - 7, 2)
        made.pixels[i, y : y + 7, x : x + 7] = 255
        if n_boxed is None or i < n_boxed:
            texts[i] = boxes.to_text(np.array([[x, y, x + 7, y + 7]]) / SIDE)
    contents = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in made.pixels]
    return XRays(name, made.table.assign(boxes=texts, sha256=contents), made.pixels, made.rows)


def of_sources(counts):
    """X-rays whose label nothing tells but a mark of their source's own: in its place, on those with one of the labels.

    Args:
        counts: source → numbers of X-rays that are not fractured, and that are; up to eight sources.
    """
    rows = [(source, label) for source, numbers in counts.items() for label in (0, 1) for _ in range(numbers[label])]
    label, names = np.array([label for _, label in rows]), list(counts)
    made = xrays("sources", np.zeros(len(rows), dtype=int))
    for picture, (source, positive) in zip(made.pixels, rows, strict=True):
        row, column = divmod(names.index(source), 2)
        if positive == (row + column) % 2:
            picture[8 * row + 1 : 8 * row + 7, 22 * column + 1 : 22 * column + 8] = 255
    table = made.table.assign(
        label=label,
        label_name=np.where(label == 1, "fractured", "not fractured"),
        sha256=[hashlib.sha256(picture.tobytes()).hexdigest() for picture in made.pixels],
        source=[source for source, _ in rows],
    )
    return XRays("sources", table, made.pixels, made.rows)


def write_csv(xrays, folder):
    """The pictures as files, named so that nothing can be read from it, and a CSV with path, label and source; its path."""
    folder.mkdir(parents=True)
    paths = [folder / f"{content[:16]}.png" for content in xrays.table["sha256"]]
    for path, picture in zip(paths, xrays.images(np.arange(len(xrays))), strict=True):
        Image.fromarray(picture).save(path)
    told = {"path": paths, "label": xrays.table["label_name"], "source": xrays.table["source"]}
    pd.DataFrame(told).to_csv(folder / "xrays.csv", index=False)
    return folder / "xrays.csv"


def training_xrays():
    """Nine files of six X-rays: of the fractured ones one has three files, of the others one has two."""
    return xrays("train", [1, 1, 1, 1, 0, 0, 0, 0, 0], group=[0, 0, 0, 1, 2, 2, 3, 4, 5])


def dataset():
    sides = {"train": training_xrays()} | {name: xrays(name, [0, 1, 0, 1, 0, 1]) for name in ("validation", "test")}
    return Dataset(
        name="made",
        index=pd.concat([side.table.assign(split=name) for name, side in sides.items()], ignore_index=True),
        rejected=pd.DataFrame(columns=["path", "reason"]),
        **sides,
        label_names=("not fractured", "fractured"),
        leakage=Leakage(),
        fingerprint="f" * 16,
        split_fingerprint="5" * 16,
    )


def shown(contents):
    """What a classifier was made from, known by its bytes alone."""
    return Shown(pd.Series(WITH_LABEL, index=pd.Index(list(contents), dtype=object), dtype=object), {})


def split_dataset(whole, *, validation, test):
    """A dataset whose sides share their pixels, as those of files do; positions that are not named are for training."""
    train = np.setdiff1d(np.arange(len(whole)), [*validation, *test])
    positions = {"train": train, "validation": np.array(validation), "test": np.array(test, dtype=int)}
    parts = {name: whole.subset(where) for name, where in positions.items()}
    sides = {name: XRays(name, part.table, part.pixels, part.rows) for name, part in parts.items()}
    index = pd.concat([side.table.assign(split=name) for name, side in sides.items()], ignore_index=True)
    return replace(dataset(), index=index, **sides)


def csv_of(folder, lines):
    """A CSV of these lines in the folder; its path."""
    (folder / "xrays.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "xrays.csv")


def write_noise(path, rng, shape=(40, 30)):
    """A picture that resembles no other."""
    cv2.imwrite(str(path), rng.integers(0, 255, shape, np.uint8))
