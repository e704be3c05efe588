"""The champion behind `mlflow models serve`, asked over HTTP."""

import base64
import json
import os
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest

from tests import foreign
from tests.ports import free_port
from tests.workplace import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(chain):
    """Address of a server of the champion."""
    port = str(free_port())
    model = "models:/fracture-classifier@champion"
    process = chain.start(
        ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-h", "127.0.0.1", "-p", port]
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=10).status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def xray(chain):
    file = next(chain.root.glob("cache/synthetic/*/test/fractured/*.jpg"))
    return base64.b64encode(file.read_bytes()).decode()


def ask(server, body, content_type="application/json"):
    """Status and parsed body of the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{server}/invocations", content, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def rows_of(form, images):
    records = [{"image": image} for image in images]
    return {
        "dataframe_records": {"dataframe_records": records},
        "dataframe_split": {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}},
        "inputs": {"inputs": {"image": images}},
        "instances": {"instances": records},
    }[form]


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split", "inputs", "instances"])
def test_every_form_of_request_is_answered(chain, server, xray, form):
    status, body = ask(server, rows_of(form, [xray, xray]))
    assert status == 200
    first, second = body["predictions"]
    assert first == second | {"probability": pytest.approx(second["probability"], abs=1e-6)}
    champion = chain.store.get_model_version_by_alias("fracture-classifier", "champion")
    assert champion.source.endswith(first["model_id"])
    assert first["label"] == ("fractured" if first["probability"] >= first["threshold"] else "not fractured")


@pytest.mark.parametrize(("threshold", "label"), [(0.1, "fractured"), (0.9, "not fractured")])
def test_a_request_may_set_the_threshold(server, xray, threshold, label):
    status, body = ask(server, {"inputs": [{"image": xray}], "params": {"threshold": threshold}})
    (answer,) = body["predictions"]
    assert (status, answer["threshold"], answer["label"]) == (200, threshold, label)
    assert 0.1 < answer["probability"] < 0.9  # after three epochs it is sure of nothing


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("%%%", "row 1: not base64"),
        ([], "row 1: found []"),
        ([1, 2], "row 1: found [1, 2], expected a picture file"),
        ({"a": 1}, "row 1: found {'a': 1}, expected a picture file"),
        ("é", "row 1: not base64"),
        (None, "row 1: found null, expected a picture file"),
        (7, "row 1: found 7, expected a picture file"),
        (base64.b64encode(b"hello").decode(), "row 1: not an image file"),
    ],
)
def test_a_bad_row_is_named_without_a_stack_trace(server, xray, bad, message):
    status, body = ask(server, rows_of("dataframe_records", [xray, bad]))
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert message in body["message"]
    assert "stack_trace" not in body


def test_a_picture_is_read_as_people_send_it(server, xray):
    expected = ask(server, {"inputs": [xray]})
    assert expected[0] == 200
    lines = "\r\n".join(xray[start : start + 76] for start in range(0, len(xray), 76))
    web_safe = xray.replace("+", "-").replace("/", "_").rstrip("=")
    for form in (f"data:image/jpeg;base64,{xray}", lines, web_safe, f" {xray}\n", {"b64": xray}):
        assert ask(server, {"inputs": [form]}) == expected
    assert ask(server, f"image\n{xray}\n".encode(), "text/csv") == expected
    assert ask(server, base64.b64decode(xray), "image/jpeg") == expected


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"{", "application/json", 400, "no JSON that can be read"),
        ({"inputs": {"img": ["x"]}}, "application/json", 400, "the columns 'img', expected a column image"),
        (b"x", "multipart/form-data; boundary=b", 415, "expected application/json"),
        ({"inputs": ["x"] * 257}, "application/json", 413, "257 rows are more than the 256 allowed"),
        (bytes(2**26 + 1), "image/jpeg", 413, "67,108,865 bytes are more than the 67,108,864 allowed"),
        ({"inputs": [], "params": {"treshold": 0.1}}, "application/json", 400, "'treshold', which this model does not"),
        ({"inputs": [], "params": {"threshold": "0.1"}}, "application/json", 400, "threshold: found '0.1', expected a"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_words(server, body, content_type, status, message):
    found, said = ask(server, body, content_type)
    assert (found, said["error_code"]) == (status, "INVALID_PARAMETER_VALUE")
    assert message in said["message"]
    assert "stack_trace" not in said


def test_many_clients_at_once_get_each_its_own_answer(server, xray):
    def status(number):
        return ask(server, {"inputs": [{"image": "%%%" if number % 5 == 0 else xray}]})[0]

    with ThreadPoolExecutor(32) as clients:
        assert list(clients.map(status, range(160))) == [400 if number % 5 == 0 else 200 for number in range(160)]


def test_a_request_may_set_the_prevalence(server, xray):
    (own,) = ask(server, {"inputs": [{"image": xray}]})[1]["predictions"]
    status, body = ask(server, {"inputs": [{"image": xray}], "params": {"prevalence": 0.02}})
    (answer,) = body["predictions"]
    assert (status, answer["label"]) == (200, own["label"])
    assert answer["probability"] < own["probability"]
    assert answer["threshold"] < own["threshold"]


def test_what_is_no_xray_is_answered_but_not_accepted(server, chain):
    kinds = foreign.kinds()
    made = [kinds[kind][::4] for kind in ("blank", "single pixel", "noise, Gaussian", "noise, uniform", "text")]
    pictures = [cv2.imencode(".png", picture)[1].tobytes() for of_kind in made for picture in of_kind]
    xrays = [file.read_bytes() for file in sorted(chain.root.glob("cache/synthetic/*/test/*/*.jpg"))[:20]]
    images = [base64.b64encode(content).decode() for content in (*pictures, *xrays)]
    status, body = ask(server, {"inputs": {"image": images}})
    assert status == 200
    others, own = body["predictions"][: len(pictures)], body["predictions"][len(pictures) :]
    # 42 training X-rays: of hundreds more is to be expected, see tests of the gate
    assert sum(answer["accepted"] for answer in others) <= 0.2 * len(others)
    assert len(own) > 10  # alone, this file of tests has 11, beside others 20
    assert sum(answer["accepted"] for answer in own) >= 0.9 * len(own)  # where 1 % is to be refused
    for answer in body["predictions"]:
        assert answer["label"] in ("fractured", "not fractured")
        assert 0 <= answer["probability"] <= 1
        told = answer["reason"].startswith("unlike the X-rays it was made from: farther than ")
        assert told == (not answer["accepted"])
        assert 0 <= answer["farther_than"] <= 1


@pytest.mark.parametrize("threshold", [2, -0.5])
def test_a_threshold_out_of_range_is_refused(server, xray, threshold):
    status, body = ask(server, {"inputs": [{"image": xray}], "params": {"threshold": threshold}})
    assert status == 400
    assert f"threshold: found {float(threshold)}, expected a number from 0 to 1" in body["message"]
    assert "Traceback" not in json.dumps(body)


def test_a_prevalence_out_of_range_is_refused(server, xray):
    status, body = ask(server, {"inputs": [{"image": xray}], "params": {"prevalence": 1}})
    assert status == 400
    assert "prevalence: found 1.0, expected a share of fractured X-rays between 0 and 1" in body["message"]
    assert "Traceback" not in json.dumps(body)
