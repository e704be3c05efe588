"""The built-in data set: procedural X-rays in folders laid out, named and littered with copies like the public sets."""

import csv
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from fracture_mae.data.synthetic.xray import xray_and_place
from fracture_mae.errors import FractureMaeError

FORMAT = 1  # raise it when the same arguments give other files
GROUPS_FILE, BOXES_FILE = "groups.csv", "boxes.csv"
LABELS = ("fractured", "not fractured")  # X-rays take turns
SPLITS, SPLIT_SHARES = ("train", "val", "test"), (0.8, 0.1, 0.1)


def materialise(
    root: Path,
    *,
    n_xrays: int = 1000,
    copies: float = 0.3,
    seed: int = 0,
    size: int = 256,
    boxes: bool = False,
    progress: bool = True,
) -> Path:
    """Write the data set under `root`, unless it is there already.

    Half of the X-rays are fractured. The same arguments give the same files; more X-rays begin with the same ones.
    Copies are scattered over the published splits, so these leak, as those of the public sets do.

    Args:
        root: Folder for data sets, made if missing.
        n_xrays: Number of X-rays; at least 6, so that both labels are in each published split.
        copies: Expected number of further files made from an X-ray, 0 to 5. Most X-rays have none, a few have many.
        seed: Not negative.
        size: Longer side of a picture in pixels, at least 64.
        boxes: Say where the fractures are.
        progress: Show a progress bar.

    Returns:
        A folder `{train,val,test}/{fractured,not fractured}/NAME`. In it, `groups.csv` tells the X-ray (column `xray`)
        that each file (column `path`, relative to the folder) was made from; where asked for, `boxes.csv` the box around the fracture
        of each fractured file, x0, y0, x1, y1 in pixels.

    Raises:
        FractureMaeError: An argument is out of its range.
    """
    _check_arguments(n_xrays, copies, seed, size)
    name = f"synthetic-v{FORMAT}-n{n_xrays}-copies{copies:g}-seed{seed}-size{size}{'-boxes' if boxes else ''}"
    root = Path(root)
    folder, unfinished = root / name, root / f".{name}.unfinished"
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        if not folder.is_dir():  # else another process made it while this one waited
            if unfinished.is_dir():  # a process was killed
                shutil.rmtree(unfinished)
            _write(unfinished, n_xrays, copies, seed, size, boxes, progress)
            unfinished.rename(folder)
    return folder


def _check_arguments(n_xrays: int, copies: float, seed: int, size: int) -> None:
    for name, value, low, high in (
        ("n_xrays", n_xrays, 6, np.inf),
        ("copies", copies, 0, 5),
        ("seed", seed, 0, np.inf),
        ("size", size, 64, np.inf),
    ):
        if not low <= value <= high:
            expected = f"{low} or more" if high == np.inf else f"{low} to {high}"
            raise FractureMaeError(f"synthetic X-rays: {name}={value}, expected {expected}; choose another {name}")


def _write(folder: Path, n_xrays: int, copies: float, seed: int, size: int, with_boxes: bool, progress: bool) -> None:
    for split in SPLITS:
        for label in LABELS:
            (folder / split / label).mkdir(parents=True)
    write_xray = partial(_write_xray, folder, copies, size)
    seeds = np.random.SeedSequence(seed).spawn(n_xrays)
    with open(folder / GROUPS_FILE, "w", newline="", encoding="utf-8") as file:
        groups, boxes = csv.writer(file), []
        groups.writerow(["path", "xray"])
        written = map(write_xray, range(n_xrays), seeds)  # threads would wait for each other: most of it is Python
        hidden = None if progress else True  # None: where stderr is no terminal
        for rows, boxed in tqdm(written, total=n_xrays, desc="synthetic X-rays", unit="X-ray", disable=hidden):
            groups.writerows(rows)
            boxes += boxed
    if with_boxes:
        table = pd.DataFrame(boxes, columns=["path", "x0", "y0", "x1", "y1"])
        table.to_csv(folder / BOXES_FILE, index=False, float_format="%.1f")


def _write_xray(
    folder: Path, copies: float, size: int, index: int, seed: np.random.SeedSequence
) -> tuple[list[tuple[str, str]], list[tuple]]:
    """Write the files of one X-ray; returns a row of the groups file for each, and of the boxes file if it is fractured."""
    picture_rng, rng = (np.random.default_rng(child) for child in seed.spawn(2))
    label, number = LABELS[index % 2], index // 2 + 1  # each label folder counts for itself
    picture, box = xray_and_place(picture_rng, fractured=label == "fractured", size=size)
    rows, boxes = [], []
    for name, content, place in _files(rng, str(number), picture, box, _number_of_copies(rng, copies)):
        # The first X-rays see to it that no split lacks a label.
        first = not rows and number <= len(SPLITS)
        split = SPLITS[number - 1] if first else SPLITS[rng.choice(len(SPLITS), p=SPLIT_SHARES)]
        path = f"{split}/{label}/{name}"
        (folder / path).write_bytes(content)
        rows.append((path, f"{label} {number}"))
        if label == "fractured":
            boxes.append((path, *place))
    return rows, boxes


def _number_of_copies(rng: np.random.Generator, mean: float) -> int:
    """A long tail. By default 10 % have 6 to 15 copies (1.05 on average over all), 18 % have 1 to 4 (0.45)."""
    share, draw = mean / 1.5, rng.random()
    if draw < 0.1 * share:
        return int(rng.integers(6, 16))
    return int(rng.integers(1, 5)) if draw < 0.28 * share else 0


def _files(
    rng: np.random.Generator, stem: str, picture: np.ndarray, box: np.ndarray, n_copies: int
) -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Names, contents and boxes of an X-ray's files: the first, then exact copies and rotations of those that are there."""
    versions = [(stem, picture, box, *_encode(rng, picture))]
    made = Counter()
    yield f"{stem}{versions[0][3]}", versions[0][4], box
    for _ in range(n_copies):
        parent, pixels, box, suffix, content = versions[rng.integers(len(versions))]
        kind = "copy" if rng.random() < 0.4 or parent.count("-rotated") == 3 else "rotation"
        made[parent, kind] += 1
        if kind == "copy":
            yield f"{parent} ({made[parent, kind]}) - Copy{suffix}", content, box
        else:
            pixels, box = _rotated(rng, pixels, box)
            versions.append((f"{parent}-rotated{made[parent, kind]}", pixels, box, *_encode(rng, pixels)))
            yield f"{versions[-1][0]}{versions[-1][3]}", versions[-1][4], box


def _rotated(rng: np.random.Generator, picture: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turned by a few degrees on the same canvas: corners become black; the box holds that from before."""
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.choice([-1, 1]) * rng.uniform(3, 15), 1.0)
    corners = box[[[0, 1], [2, 1], [2, 3], [0, 3]]] @ turn[:, :2].T + turn[:, 2]
    around = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).clip(0, [width, height] * 2)
    return cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR), around


def _encode(rng: np.random.Generator, picture: np.ndarray) -> tuple[str, bytes]:
    """Suffix and content of a picture file: a few PNG, else JPEG of any usual quality."""
    if rng.random() < 0.04:
        return ".png", cv2.imencode(".png", picture)[1].tobytes()
    quality = int(rng.integers(60, 97))
    return ".jpg", cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
