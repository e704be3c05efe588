"""Real DICOM files: two radiographs, three ways of compressing them, and what is to be told apart from them."""

import os
from pathlib import Path

import numpy as np
import pytest

from fracture_mae.data.reading.decoding import UnreadableImage, decode

pytestmark = pytest.mark.data
REFUSED = {
    "693_J2KR.dcm": "modality CT",
    "JPEG-LL.dcm": "modality NM",
    "JPGLosslessP14SV1_1s_1f_8b.dcm": "modality US",
    "OBXXXX1A_rle_2frame.dcm": "modality US",
    "US1_J2KI.dcm": "modality US",
    "bad_sequence.dcm": "modality CT",
    "color-pl.dcm": "modality US",
}
SHAPES = {
    "RG1_J2KI.dcm": (1955, 1841),
    "RG3_J2KI.dcm": (1760, 1760),
    "RG3_J2KR.dcm": (1760, 1760),
    "SC_rgb.dcm": (100, 100),
}


@pytest.fixture(scope="module")
def folder():
    place = Path(os.environ["FRACTURE_DATA"]).parent / "dicom"
    if not place.exists():
        pytest.skip(f"there is no {place}")
    return place


def test_all_files_are_known(folder):
    assert {file.name for file in folder.glob("*.dcm")} == {*REFUSED, *SHAPES}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_radiograph_is_refused(folder, name):
    with pytest.raises(UnreadableImage, match=REFUSED[name]):
        decode((folder / name).read_bytes())


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_one_is_read(folder, name):
    picture = decode((folder / name).read_bytes())
    assert picture.shape == SHAPES[name]
    assert np.ptp(picture) > 200


def test_bones_are_white_on_black(folder):
    """Lungs are darker than the spine and the belly; a shin is brighter than the air beside it, in both kinds of JPEG 2000."""
    chest = decode((folder / "RG1_J2KI.dcm").read_bytes())
    height, width = chest.shape
    lungs = np.median(chest[height // 4 : height // 2, width // 5 : 2 * width // 5])
    assert np.median(chest[height // 4 : height // 2, 45 * width // 100 : 55 * width // 100]) > lungs + 40
    assert np.median(chest[-height // 5 :, width // 4 : 2 * width // 5]) > lungs + 40
    for name in ("RG3_J2KI.dcm", "RG3_J2KR.dcm"):
        leg = decode((folder / name).read_bytes())
        shin, air = (np.median(leg[300:800, left : left + 60]) for left in (880, 500))
        assert shin > air + 60


def test_lossy_and_lossless_show_the_same(folder):
    lossy, lossless = (decode((folder / name).read_bytes()).astype(int) for name in ("RG3_J2KI.dcm", "RG3_J2KR.dcm"))
    assert np.abs(lossy - lossless).mean() < 1
