from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import expit

from fracture_mae.errors import FractureMaeError
from fracture_mae.metrics.calibration import Isotonic
from fracture_mae.metrics.decision import Decision

NAMES = ("healthy", "broken")


def test_a_decision_comes_back_from_its_json():
    decision = Decision(
        NAMES, 0.3, slope=0.7, intercept=-1.2, prevalence=0.31, isotonic=Isotonic((0.0, 1.0), (0.1, 0.9))
    )
    assert Decision.restored(asdict(decision)) == decision


def test_a_temperature_of_an_earlier_version_is_one_over_the_slope():
    described = {"label_names": list(NAMES), "threshold": 0.3, "temperature": 4.0}
    restored = Decision.restored(described)
    assert restored == Decision(NAMES, 0.3, slope=0.25)
    np.testing.assert_allclose(restored.probability([-4, 0, 8]), expit([-1, 0, 2]))
    assert described["temperature"] == 4.0  # left as it was


def test_slope_and_intercept_make_the_probability():
    decision = Decision(NAMES, slope=2.0, intercept=-1.0)
    np.testing.assert_allclose(decision.probability([0.5, 1]), expit([0, 1]))
    assert decision.calibrated
    assert Decision(NAMES, intercept=-1.0).calibrated
    assert not Decision(NAMES).calibrated
    assert decision.metrics == {"threshold": 0.5, "slope": 2.0, "intercept": -1.0}


def test_what_the_calibration_is_stands_in_words():
    told = Decision(NAMES, slope=0.7124, intercept=-1.1, prevalence=0.312).calibration
    assert told == "expit(0.712 · logit - 1.100), fitted where 31.2% of the X-rays are fractured"
    assert Decision(NAMES).calibration == "expit(1.000 · logit + 0.000)"
    assert Decision(NAMES, isotonic=Isotonic((0.0, 1.0), (0.1, 0.9))).calibration == "isotonic, 2 corners"


@pytest.mark.parametrize("isotonic", [None, Isotonic((-3.0, 0.0, 3.0), (0.1, 0.4, 0.9))], ids=["platt", "isotonic"])
def test_at_another_prevalence_the_answers_stay_with_a_threshold_moved_along(isotonic):
    decision = Decision(NAMES, 0.4, slope=0.8, intercept=0.2, prevalence=0.6, isotonic=isotonic)
    probability = decision.probability(np.linspace(-4, 4, 101))
    moved, limit = decision.at_prevalence(probability, 0.05), decision.at_prevalence(decision.threshold, 0.05)
    np.testing.assert_array_equal(moved >= limit, probability >= decision.threshold)
    assert (moved < probability).all()
    # By hand: odds of 0.4 are 2/3; those of 0.05 over those of 0.6 are (1/19) / (3/2).
    odds = 2 / 3 * (1 / 19) / (3 / 2)
    assert limit == pytest.approx(odds / (1 + odds))


def test_probabilities_that_know_no_prevalence_cannot_be_moved():
    with pytest.raises(FractureMaeError, match=r"were fitted to no share of fractured X-rays .* calibrate=platt"):
        Decision(NAMES, slope=0.5).at_prevalence([0.5], 0.05)


@pytest.mark.parametrize("isotonic", [None, Isotonic((-1.0, 1.0), (0.2, 0.8))])
def test_moved_to_another_prevalence_it_gives_the_same_answers(isotonic):
    decision = Decision(NAMES, threshold=0.5, slope=2.0, intercept=0.3, prevalence=0.5, isotonic=isotonic)
    moved = decision.moved(0.1)
    # Odds of 1 at a share of 1/2 are odds of 1/9 where it is 1/10.
    assert moved.threshold == pytest.approx(0.1)
    logit = np.array([-1.0, 1.0])
    np.testing.assert_allclose(moved.probability(logit), decision.at_prevalence(decision.probability(logit), 0.1))
    assert moved.moved(0.5).threshold == pytest.approx(0.5)
    unknown = Decision(NAMES, threshold=0.5)
    assert unknown.moved(0.1) is unknown
