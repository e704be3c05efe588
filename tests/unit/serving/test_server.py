"""MLflow's scoring server with a classifier in it, asked in this process, without a network."""

import asyncio
import base64
import io
import json
import os
import re

import cv2
import fastapi
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from fracture_mae.metrics.decision import Decision
from fracture_mae.models import classifier
from fracture_mae.serving import models, refusals
from fracture_mae.serving.limits import Limits
from tests.unit.serving.test_predict import PICTURES, as_base64, open_model

XRAY = as_base64(PICTURES[0])
FILE = base64.b64decode(XRAY)
SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "image")]),
    params=ParamSchema(
        [ParamSpec(name, "double", None) for name in ("threshold", "prevalence")]
        + [ParamSpec("explain", "boolean", False)]
    ),
)
LIMITS = {"MAX_BYTES": 20_000, "MAX_ROWS": 3, "MAX_PIXELS": 5_000, "MAX_TOTAL_PIXELS": 9_000}


class Answering:
    """A model as MLflow calls it."""

    def __init__(self, model):
        self.predict = lambda data, params=None: model.predict(None, data, params)


@pytest.fixture
def ask(tiny_mae, tmp_path, monkeypatch):
    """Sends a request to a server: body, content type → status and what it says."""
    folder = tmp_path / "artifacts" / "network"
    network = classifier.from_mae(tiny_mae, pool="mean", drop_path=0.0, seed=1).eval()
    decision = Decision(("healthy", "broken"), threshold=0.5, slope=0.5, prevalence=0.5, split_fingerprint="5" * 16)
    classifier.save(network, decision, folder)
    monkeypatch.setattr(scoring_server, "invocations", scoring_server.invocations)  # what is installed goes again
    monkeypatch.setattr(fastapi, "FastAPI", fastapi.FastAPI)
    monkeypatch.setenv(scoring_server._SERVER_MODEL_PATH, str(tmp_path))
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    for name, limit in LIMITS.items():
        monkeypatch.setenv(f"FRACTURE_MAE_SERVING_{name}", str(limit))
    model = open_model(models.ServedClassifier(), folder)
    meta = Model(signature=SIGNATURE, flavors={"python_function": {"loader_module": "none"}})
    server = scoring_server.init(PyFuncModel(meta, Answering(model)))

    def send(body, content_type="application/json", query=b""):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(_ask(server, body, content_type, query))

    return send


async def _ask(server, body, content_type, query):
    parts = [body[start : start + 7_000] for start in range(0, len(body), 7_000)] or [b""]
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})
    said = []

    async def receive():
        return waiting.pop(0) if waiting else await asyncio.Event().wait()

    async def send(message):
        said.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "root_path": ""}
    scope |= {"scheme": "http", "server": ("127.0.0.1", 80), "path": "/invocations", "raw_path": b"/invocations"}
    headers = [(b"content-type", content_type.encode())] if content_type is not None else []
    await server(scope | {"query_string": query, "headers": headers}, receive, send)
    text = b"".join(message.get("body", b"") for message in said)
    return said[0]["status"], json.loads(text)


def refused(answer, status=400):
    """The message of an answer that is an error of the client, and no more than that."""
    found, body = answer
    assert (found, body["error_code"]) == (status, "INVALID_PARAMETER_VALUE")
    assert set(body) == {"error_code", "message", "sqlstate", "error_class"}
    assert len(body["message"]) < 1_000
    assert "Traceback" not in body["message"]
    return body["message"]


def csv(**columns):
    return pd.DataFrame(columns).to_csv().encode()


def parquet(**columns):
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


RECORDS = [{"image": XRAY}, {"image": XRAY}]
ANSWERED = {
    "records": ({"dataframe_records": RECORDS}, "application/json"),
    "records with more columns": (
        {"dataframe_records": [{"id": n, "image": XRAY} for n in (1, 2)]},
        "application/json",
    ),
    "split": ({"dataframe_split": {"columns": ["id", "image"], "data": [[1, XRAY], [2, XRAY]]}}, "application/json"),
    "inputs of rows": ({"inputs": RECORDS}, "application/json"),
    "inputs of columns": ({"inputs": {"image": [XRAY, XRAY]}}, "application/json"),
    "inputs without names": ({"inputs": [XRAY, XRAY]}, "application/json"),
    "inputs of rows without names": ({"inputs": [[XRAY], [XRAY]]}, "application/json"),
    "instances": ({"instances": RECORDS}, "application/json; charset=UTF-8"),
    "instances of TensorFlow": ({"instances": [{"b64": XRAY}, {"b64": XRAY}]}, "application/json"),
    "named instances of TensorFlow": ({"instances": [{"image": {"b64": XRAY}}] * 2}, "application/json"),
    "csv": (csv(image=[XRAY, XRAY]), "text/csv"),
    "parquet": (parquet(image=[XRAY, XRAY]), "application/vnd.apache.parquet"),
    "parquet by another name": (parquet(image=[XRAY, XRAY], n=[1, 2]), "application/x-parquet"),
    "parquet of files": (parquet(image=[FILE, FILE]), "application/parquet"),
}


@pytest.mark.parametrize("form", ANSWERED)
def test_every_form_of_request_is_answered(ask, form):
    status, body = ask(*ANSWERED[form])
    assert status == 200
    first, second = body["predictions"]
    assert first == second
    assert first["label"] in ("healthy", "broken")


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream"])
def test_a_picture_file_is_answered_as_it_is(ask, kind):
    assert ask(FILE, kind) == ask({"inputs": [XRAY]})


@pytest.mark.parametrize("one", [XRAY, {"b64": XRAY}, {"image": XRAY}])
def test_one_picture_needs_no_list(ask, one):
    assert ask({"inputs": one}) == ask({"inputs": [XRAY]})


@pytest.mark.parametrize("body", [{"inputs": []}, {"dataframe_split": {"columns": ["image"], "data": []}}])
def test_no_rows_make_no_answers(ask, body):
    assert ask(body) == (200, {"predictions": []})


FORMLESS = {
    "no JSON": (b"{", "application/json", "no JSON that can be read: Expecting property name"),
    "no UTF-8": (b'{"inputs": "\xff"}', "application/json", "no JSON that can be read"),
    "too deep": (b'{"inputs":' + b"[" * 9_000 + b"]" * 9_000 + b"}", "application/json", "nested too deep|found"),
    "empty": (b"", "application/json", "no JSON that can be read"),
    "a list": ([XRAY], "application/json", "expected an object with one of"),
    "a number": (3, "application/json", "found 3, expected an object"),
    "no form": ({"data": [XRAY]}, "application/json", "found 'data', expected one of"),
    "two forms": ({"inputs": [XRAY], "instances": [XRAY]}, "application/json", "found 'inputs', 'instances', expected"),
    "a threshold beside": ({"inputs": [XRAY], "threshold": 0.1}, "application/json", "'threshold', expected one of"),
    "as to a language model": ({"messages": []}, "application/json", "found 'messages', expected one of"),
    "records of columns": ({"dataframe_records": {"image": [XRAY]}}, "application/json", "expected a list of rows"),
    "records of texts": ({"dataframe_records": [XRAY]}, "application/json", "expected a list of rows"),
    "split of a list": ({"dataframe_split": [XRAY]}, "application/json", "dataframe_split: found .*, expected"),
    "split without columns": ({"dataframe_split": {"data": [[XRAY]]}}, "application/json", "dataframe_split: found"),
    "split of short rows": (
        {"dataframe_split": {"columns": ["image", "id"], "data": [[XRAY, 1], [XRAY]]}},
        "application/json",
        "row 1: found .*, expected a list of 2",
    ),
    "another column": ({"inputs": {"img": [XRAY]}}, "application/json", "the columns 'img', expected a column image"),
    "other columns": (
        {"dataframe_split": {"columns": ["image_base64", "id"], "data": [[XRAY, 1]]}},
        "application/json",
        "the columns 'image_base64', 'id', expected a column image",
    ),
    "a row without": ({"dataframe_records": [*RECORDS, {"x": 1}]}, "application/json", "row 2: found the columns 'x'"),
    "no columns": ({"dataframe_split": {"columns": [], "data": [[], []]}}, "application/json", "found no columns"),
    "rows of two kinds": ({"inputs": [{"image": XRAY}, XRAY]}, "application/json", "expected rows of one kind"),
    "csv without names": (f"{XRAY}\n{XRAY}".encode(), "text/csv", "expected a column image"),
    "empty csv": (b"", "text/csv", "no CSV that can be read: No columns"),
    "ragged csv": (b"image\na\nb,c,d\n", "text/csv", "no CSV that can be read"),
    "binary csv": (FILE, "text/csv", "no CSV that can be read"),
    "parquet of another column": (parquet(img=[XRAY]), "application/x-parquet", "the columns 'img', expected"),
    "damaged parquet": (parquet(image=[XRAY])[:300], "application/x-parquet", "no Parquet that can be read"),
}


@pytest.mark.parametrize("what", FORMLESS)
def test_a_request_without_a_form_is_told_one_that_works(ask, what):
    body, kind, message = FORMLESS[what]
    said = refused(ask(body, kind))
    assert re.search(message, said), said
    assert refusals.EXAMPLE in said


def test_the_example_works(ask):
    status, body = ask(refusals.EXAMPLE.encode())
    assert (status, len(body["predictions"])) == (200, 1)


@pytest.mark.parametrize(
    "kind", [None, "", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain", "nonsense"]
)
def test_other_content_is_refused_with_a_request_that_works(ask, kind):
    said = refused(ask(FILE, kind), status=415)
    assert "expected application/json, text/csv" in said
    assert refusals.EXAMPLE in said


def test_other_letters_than_utf_8_are_refused(ask):
    assert "expected UTF-8" in refused(ask({"inputs": [XRAY]}, "application/json; charset=latin-1"), status=415)


CELLS = {
    "[]": [],
    "[1, 2]": [1, 2],
    "{}": {"a": 1},
    "7": 7,
    "0.5": 0.5,
    "true": True,
    "null": None,
    "empty": "",
    "blank": " ",
}
CELLS |= {"two pictures": [XRAY, XRAY], "nested": [[XRAY]]}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("form", ["records", "split", "inputs", "instances"])
def test_a_cell_that_is_no_picture_is_named(ask, cell, form):
    rows = [{"image": XRAY}, {"image": cell}]
    body = {
        "records": {"dataframe_records": rows},
        "split": {"dataframe_split": {"columns": ["image"], "data": [[XRAY], [cell]]}},
        "inputs": {"inputs": {"image": [XRAY, cell]}},
        "instances": {"instances": rows},
    }[form]
    assert refused(ask(body)).startswith("row 1: found ")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"treshold": 0.1},
            "params: found 'treshold', which this model does not know (known: threshold, prevalence, explain)",
        ),
        ({"threshold": 0.1, "Prevalence": 0.1}, "params: found 'Prevalence', which"),
        ({"threshold": "high"}, "threshold: found 'high', expected a number"),
        ({"threshold": "0.5"}, "threshold: found '0.5', expected a number"),
        ({"threshold": True}, "threshold: found True, expected a number"),
        ({"threshold": [0.5]}, "threshold: found [0.5], expected a number"),
        ({"threshold": {}}, "threshold: found {}, expected a number"),
        ({"threshold": 1e400}, "threshold: found inf, expected a number from 0 to 1"),
        ({"threshold": 10**400}, "expected a number"),
        ({"threshold": float("nan")}, "threshold: found nan, expected a number from 0 to 1"),
        ({"threshold": 2}, "threshold: found 2.0, expected a number from 0 to 1"),
        ({"prevalence": "rare"}, "prevalence: found 'rare', expected a number"),
        ({"prevalence": 1}, "prevalence: found 1.0, expected a share"),
        ({"explain": "true"}, "explain: found 'true', expected true or false"),
        ({"explain": 1}, "explain: found 1, expected true or false"),
        ([0.5], "params: found [0.5], expected an object"),
        (0.5, "params: found 0.5, expected an object"),
        ("threshold", "params: found 'threshold', expected an object"),
    ],
    ids=repr,
)
def test_parameters_that_cannot_be_obeyed_are_refused(ask, params, message):
    assert message in refused(ask({"inputs": [XRAY], "params": params}))


def test_a_map_is_answered_where_it_is_asked_for(ask):
    status, plain = ask({"inputs": [XRAY]})
    assert status == 200
    ((without,),) = plain.values()
    assert "map" not in without
    for params in ({"explain": False}, {"explain": None}):
        assert ask({"inputs": [XRAY], "params": params})[1] == plain
    ((answer,),) = ask({"inputs": [XRAY], "params": {"explain": True}})[1].values()
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(answer.pop("map")), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (224, 224, 3)
    assert (picture[..., 0] != picture[..., 2]).any()  # coloured
    assert answer == without


@pytest.mark.parametrize("params", [None, {}, {"threshold": None}, {"threshold": 0.25, "prevalence": None}])
def test_parameters_that_are_null_are_the_models_own(ask, params):
    ((answer,),) = ask({"inputs": [XRAY], "params": params})[1].values()
    assert answer["threshold"] == ((params or {}).get("threshold") or 0.5)


def test_parameters_behind_the_address_are_refused(ask):
    assert "found 'threshold=0.1' behind the address" in refused(ask({"inputs": [XRAY]}, query=b"threshold=0.1"))


def test_limits_are_kept_and_told(ask):
    assert "23,000 bytes are more than the 20,000 allowed" in refused(ask(bytes(23_000)), status=413)
    assert "4 rows are more than the 3 allowed" in refused(ask({"inputs": [XRAY] * 4}), status=413)
    assert "4 rows" in refused(ask(parquet(image=[XRAY] * 4), "application/x-parquet"), status=413)
    large, half = as_base64(np.zeros((51, 100), np.uint8)), as_base64(np.zeros((46, 100), np.uint8))
    assert "row 1: 100 × 51 pixels are more than the 5,000 allowed" in refused(ask({"inputs": [half, large]}))
    total = "9,200 pixels up to row 1 are more than the 9,000 allowed (FRACTURE_MAE_SERVING_MAX_TOTAL_PIXELS"
    assert total in refused(ask({"inputs": [half, half]}), status=413)
    unpacked = parquet(image=["A" * 30_000])
    assert len(unpacked) < 20_000
    assert "allowed" in refused(ask(unpacked, "application/x-parquet"), status=413)


def test_an_endless_body_is_not_read_to_its_end(ask):
    assert "more than the 20,000 allowed" in refused(ask(bytes(20_000 * 20)), status=413)


def test_a_failure_of_the_server_shows_no_stack_trace(ask, monkeypatch):
    monkeypatch.setattr(models, "preprocess", lambda *_: 1 / 0)
    status, body = ask({"inputs": [XRAY]})
    assert (status, body["error_code"]) == (500, "INTERNAL_ERROR")
    assert "stack_trace" not in body
    assert "ZeroDivisionError" in body["message"]


def test_nothing_is_installed_where_nobody_serves(tmp_path, tiny_mae, monkeypatch):
    monkeypatch.delenv(scoring_server._SERVER_MODEL_PATH, raising=False)
    assert scoring_server._SERVER_MODEL_PATH not in os.environ
    before = scoring_server.invocations, fastapi.FastAPI
    folder = tmp_path / "artifacts" / "network"
    classifier.save(classifier.from_mae(tiny_mae, pool="mean", seed=1), Decision(("a", "b"), threshold=0.5), folder)
    served = open_model(models.ServedClassifier(), folder)
    assert (scoring_server.invocations, fastapi.FastAPI) == before
    assert served.limits.max_rows == Limits().max_rows
