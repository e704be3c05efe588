import numpy as np
import pytest

from fracture_mae.data.reading.exposure import to_grey_levels
from fracture_mae.data.reading.unreadable import UnreadableImage

RAMP = np.tile(np.linspace(800, 1200, 300).astype(np.uint16), (200, 1))
RNG = np.random.default_rng(0)


def levels(picture, where=(slice(100, 190), slice(10, 290)), **options):
    """How many grey levels the anatomy gets, and whether it stays in order."""
    shown = to_grey_levels(picture, **options)[where]
    return len(np.unique(shown)) if (np.diff(shown.astype(int), axis=1) >= 0).all() else 0


def marked(values):
    picture = RAMP.copy()
    picture[10:50, 10:50] = values
    return picture


@pytest.mark.parametrize(
    "values", [65_535, RNG.integers(58_000, 65_000, (40, 40)), 0, RNG.integers(20_000, 21_000, (40, 40))]
)
def test_a_marker_leaves_the_anatomy_its_levels(values):
    assert levels(marked(values)) > 150


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_every_kind_of_number_is_stretched_alike(kind):
    assert (to_grey_levels(RAMP.astype(kind)) == to_grey_levels(RAMP)).all()


def test_bars_around_the_field_do_not_count():
    picture = RNG.integers(0, 6, (400, 500)).astype(np.uint16)
    picture[100:300, 100:400] = RAMP
    assert levels(picture, (slice(150, 250), slice(110, 390))) > 150


def test_pixels_that_are_not_exposed_do_not_count():
    picture = RAMP.copy()
    picture[:, :150] = RNG.integers(30_000, 60_000, (200, 150))
    exposed = np.zeros(picture.shape, bool)
    exposed[:, 150:] = True
    assert levels(picture, (slice(None), slice(150, None)), exposed=exposed) > 100  # of 150 columns


def test_one_value_alone_is_black():
    assert not to_grey_levels(np.full((9, 9), 500, np.uint16)).any()


def test_what_is_no_number_is_refused():
    with pytest.raises(UnreadableImage, match="no number"):
        to_grey_levels(np.array([[1.0, np.nan]]))
