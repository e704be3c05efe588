import numpy as np
import pandas as pd
import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.evaluation.own_threshold import Wish
from fracture_mae.metrics import assurance, bagged_thresholds

LABEL = np.repeat([1, 0], 40)
PROBABILITY = np.append(np.linspace(0.4, 0.9, 40), np.linspace(0.1, 0.6, 40))
ROWS = pd.DataFrame({"group": np.arange(80), "patient": np.arange(80), "label": LABEL})
ASSURED = Wish.of("specificity_at_sensitivity", 0.9, 0.95)


def test_options_that_an_objective_does_not_know_are_left_out():
    assert Wish.of("f1", 0.9, 0.95) == Wish("f1")
    assert Wish.of("specificity_at_sensitivity", 0.9, "none") == Wish("specificity_at_sensitivity", 0.9)
    assert str(ASSURED) == "specificity_at_sensitivity (min_sensitivity 0.9, assurance 0.95)"
    assert str(Wish("f1")) == "f1"


def test_it_is_chosen_as_it_is_wished():
    options = {"min_sensitivity": 0.9}
    ordinary = bagged_thresholds.choose(
        LABEL, PROBABILITY, "specificity_at_sensitivity", np.arange(80), seed=3, **options
    )
    assert Wish("specificity_at_sensitivity", 0.9).choose(ROWS, PROBABILITY, 3) == pytest.approx(ordinary)
    sure = assurance.choose(LABEL, PROBABILITY, np.arange(80), assurance=0.95, **options)
    assert ASSURED.choose(ROWS, PROBABILITY, 3) == sure < ordinary


def test_it_is_told_how_it_was_chosen_and_how_sure_it_is():
    at = ASSURED.choose(ROWS, PROBABILITY, 0)
    sure = 1 - 0.9**40
    assert ASSURED.told(ROWS, PROBABILITY, at, "validation") == (
        "assured on 80 validation X-rays: 0 of 40 patients with a fracture missed, so the true sensitivity is 0.9 or more with "
        f"confidence {sure:.2f}"
    )
    files = ROWS.assign(group=ROWS["group"] // 2)
    assert Wish("f1").told(files, PROBABILITY, 0.5, "validation") == (
        "mean over 500 bootstrap draws of 40 validation X-rays by their 80 files one by one, as a server answers"
    )


def test_too_few_fractures_are_a_sentence():
    wish = Wish.of("specificity_at_sensitivity", 0.95, 0.95)
    with pytest.raises(
        FractureMaeError,
        match=r"--assurance 0\.95: a true sensitivity of 0\.95 .* needs 59 patients with a fracture, none of them missed; found 40 on "
        r"validation\. Do this, or ask for less: --min-sensitivity 0\.927 is what they can assure\.",
    ):
        wish.check(ROWS, "on validation", "Do this")
    with pytest.raises(FractureMaeError, match="found 40 to choose on"):
        wish.choose(ROWS, PROBABILITY, 0)
    ASSURED.check(ROWS, "on validation", "")
    Wish("f1").check(ROWS, "on validation", "")
