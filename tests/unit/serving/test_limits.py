import pytest

from fracture_mae.errors import FractureMaeError
from fracture_mae.serving import models
from fracture_mae.serving.limits import Limits, exceeded

NAMES = ["max_bytes", "max_rows", "max_pixels", "max_total_pixels"]


def test_without_variables_the_defaults_hold():
    assert Limits.from_environment() == Limits()
    assert list(vars(Limits())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_changed(monkeypatch, name):
    monkeypatch.setenv(f"FRACTURE_MAE_SERVING_{name.upper()}", " 12 ")
    assert vars(Limits.from_environment()) == vars(Limits()) | {name: 12}


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e6", "1.5", "²"])
def test_what_is_no_whole_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("FRACTURE_MAE_SERVING_MAX_ROWS", text)
    with pytest.raises(
        FractureMaeError, match=f"FRACTURE_MAE_SERVING_MAX_ROWS: found '{text}', expected a whole number"
    ):
        Limits.from_environment()


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_SERVING_MAX_ROWS", "")
    assert Limits.from_environment().max_rows == 256


def test_what_is_beyond_names_its_variable():
    said = exceeded("max_rows", "300 rows", 256)
    assert said == "300 rows are more than the 256 allowed (FRACTURE_MAE_SERVING_MAX_ROWS of the server)"


def test_a_server_does_not_start_with_a_wrong_limit_and_says_so(monkeypatch):
    monkeypatch.setenv("FRACTURE_MAE_SERVING_MAX_ROWS", "many")
    monkeypatch.setattr(models.server, "is_serving", lambda: True)
    with pytest.raises(SystemExit) as caught:
        models._limits()
    assert str(caught.value).startswith("Error: FRACTURE_MAE_SERVING_MAX_ROWS: found 'many', expected a whole number")
