import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracture_mae.data.reading import identities, recalled


@pytest.fixture
def files(tmp_path):
    """Four files of 32 × 32 pixels, and a fifth that is no picture, as a run lists them."""
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_text("no picture")
    paths = sorted(tmp_path.glob("*.png"))
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return pd.DataFrame({"path": [str(path) for path in paths], "sha256": contents, "label_name": "fractured"})


def test_each_content_is_read_at_its_path_or_said_why_not(files, tmp_path):
    wanted = ["f" * 64, *files["sha256"]]
    pixels = np.asarray(Image.open(tmp_path / "3.png"))
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes((tmp_path / "2.png").read_bytes())
    found, missing = recalled.read(files, wanted, 32, "letterbox")
    assert {content: each.name for content, each in found.items()} == dict(
        zip(files["sha256"][2:4], ["2.png", "3.png"], strict=True)
    )
    np.testing.assert_array_equal(found[files["sha256"][3]].pixels, pixels)
    reasons = (recalled.NOT_KNOWN, recalled.GONE, recalled.CHANGED, recalled.UNREADABLE)
    assert missing == dict(zip([*wanted[:3], wanted[5]], reasons, strict=True))


def test_of_two_paths_with_one_content_either_will_do(files, tmp_path):
    content = files["sha256"][0]
    listed = pd.DataFrame({"path": [str(tmp_path / "gone.png"), files["path"][0], files["path"][1]], "sha256": content})
    found, missing = recalled.read(listed, [content], 16, "film_squares")
    assert (found[content].name, found[content].pixels.shape, missing) == ("0.png", (16, 16), {})


def test_a_name_that_stands_as_a_hash_is_found_and_not_told(files, tmp_path, monkeypatch):
    monkeypatch.setenv(identities.VARIABLE, "a key of sixteen signs")
    (tmp_path / "0.png").rename(tmp_path / "1.2.840.10008.5.1.png")
    shown = f"{tmp_path}/{identities.shown_name('1.2.840.10008.5.1.png', ())}"
    listed = pd.DataFrame({"path": [shown], "sha256": files["sha256"][:1]})
    identities._real.clear()
    found, _ = recalled.read(listed, listed["sha256"], 32, "letterbox")
    assert [each.name for each in found.values()] == [shown.rpartition("/")[2]]
    assert "1.2.840" not in shown
    identities._real.clear()
    monkeypatch.setenv(identities.VARIABLE, "short")  # no key, no way back
    assert recalled.read(listed, listed["sha256"], 32, "letterbox")[1] == {listed["sha256"][0]: recalled.GONE}
