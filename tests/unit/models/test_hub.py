"""A hub on loopback, and a separate process that loads from it: huggingface_hub reads its address and cache when it is imported."""

import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fracture_mae
from fracture_mae.errors import FractureMaeError
from fracture_mae.models import autoencoder as mae_model
from fracture_mae.models import hub
from fracture_mae.models.pixels import Normalisation
from tests.ports import free_port

LOADER = """
import json, sys, time
from fracture_mae.errors import FractureMaeError
from fracture_mae.models import autoencoder

for name in map(str.strip, sys.stdin):
    started = time.monotonic()
    try:
        loaded = autoencoder.load(name)
        answer = {"mean": loaded.normalisation.mean, "sum": sum(p.double().sum().item() for p in loaded.parameters())}
    except FractureMaeError as error:
        answer = {"error": str(error)}
    print("answer", json.dumps(answer | {"seconds": time.monotonic() - started}), flush=True)
"""


class Hub(ThreadingHTTPServer):
    """Serves `models[NAME][FILE]`; of the file `cut`, only the first half before it hangs up."""

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), Handler)
        self.models = {}
        self.cut = None
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name, _, file = self.path.strip("/").partition("/resolve/main/")
        content = self.server.models.get(name, {}).get(file)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if name in self.server.models else "RepoNotFound")
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", "c" * 40)
        self.end_headers()
        if content and self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if file == self.server.cut else content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture
def hub_server(port):
    server = Hub(port)
    yield server
    server.stop()


@pytest.fixture
def checkpoint(tiny_mae, tmp_path):
    """Files of a whole checkpoint; its normalisation is no default."""
    tiny_mae.normalisation = Normalisation((0.3,), (0.2,))
    mae_model.save(tiny_mae, tmp_path / "checkpoint")
    return {file.name: file.read_bytes() for file in (tmp_path / "checkpoint").iterdir()}


@pytest.fixture(scope="module")
def load(port, tmp_path_factory):
    """Loads a model by name in a process of its own; its cache is empty, but all tests here share it."""
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(tmp_path_factory.mktemp("huggingface")),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(Path(fracture_mae.__file__).parents[1]),
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", LOADER], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as process:

        def load(name):
            print(name, file=process.stdin, flush=True)
            return json.loads(next(line for line in process.stdout if line.startswith("answer")).removeprefix("answer"))

        yield load
        process.kill()


WAYS_OUT = ("local folder", "cache", "HF_HOME", "vit-mae-nano", "vit-mae-tiny", "vit-mae-small")


@pytest.mark.slow
def test_from_the_hub_then_from_the_cache(load, hub_server, checkpoint, tiny_mae):
    expected = sum(parameter.double().sum().item() for parameter in tiny_mae.parameters())
    hub_server.models["some/mae"] = checkpoint
    assert load("some/mae")["sum"] == pytest.approx(expected)
    hub_server.stop()
    cached = load("some/mae")
    assert cached["sum"] == pytest.approx(expected)
    assert cached["mean"] == [0.3]


@pytest.mark.slow
def test_an_unknown_name(load, hub_server):
    error = load("unknown/mae")["error"]
    assert all(word in error for word in ("unknown/mae", *WAYS_OUT))


@pytest.mark.slow
def test_pickled_weights_are_refused(load, hub_server, checkpoint, tmp_path):
    trace = tmp_path / "unpickled"
    hub_server.models["pickled/mae"] = {"config.json": checkpoint["config.json"], "pytorch_model.bin": pickled(trace)}
    assert "model.safetensors" in load("pickled/mae")["error"]
    assert not trace.exists()


@pytest.mark.slow
def test_that_there_is_no_preprocessor_is_remembered(load, hub_server, checkpoint):
    del checkpoint["preprocessor_config.json"]
    hub_server.models["plain/mae"] = checkpoint
    assert load("plain/mae")["mean"] == [0.5]
    hub_server.stop()
    assert load("plain/mae")["mean"] == [0.5]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json"])
def test_a_download_cut_half_way_can_be_repeated(load, hub_server, checkpoint, file):
    name = f"cut/{file}"
    hub_server.models[name] = checkpoint
    hub_server.cut = file
    error = load(name)["error"]
    assert name in error
    assert f"received {len(checkpoint[file]) // 2} bytes, expected {len(checkpoint[file])}" in error
    hub_server.cut = None
    assert load(name)["mean"] == [0.3]


@pytest.mark.slow
def test_a_hub_out_of_reach_is_an_error_within_seconds(load, port):
    answer = load("never/seen")
    assert answer["seconds"] < 10
    assert all(
        word in answer["error"] for word in ("never/seen", "out of reach", f"http://127.0.0.1:{port}", *WAYS_OUT)
    )


def test_a_hub_that_keeps_silent_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(hub, "REACH_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # takes connections, answers none
        assert "timed out" in hub._unreachable(f"http://127.0.0.1:{listening.getsockname()[1]}")


def test_offline_is_said():
    with pytest.raises(FractureMaeError, match=r"some/mae.*HF_HUB_OFFLINE.*vit-mae-tiny"):
        mae_model.load("some/mae")


def test_a_folder_that_does_not_exist():
    with pytest.raises(FractureMaeError, match=r"/no/such/folder does not exist.*vit-mae-tiny"):
        mae_model.load("/no/such/folder")


def pickled(trace):
    """Weights that write a file when they are unpickled."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (trace,)

    return pickle.dumps({"vit.embeddings.cls_token": Trap()})


@pytest.mark.parametrize("kept", [["config.json"], ["config.json", "pytorch_model.bin"], ["model.safetensors"]])
def test_a_folder_without_config_or_safetensors(checkpoint, tmp_path, kept):
    trace, folder = tmp_path / "unpickled", tmp_path / "folder"
    folder.mkdir()
    for name in kept:
        (folder / name).write_bytes((checkpoint | {"pytorch_model.bin": pickled(trace)})[name])
    with pytest.raises(FractureMaeError, match=str(folder)):
        mae_model.load(str(folder))
    assert not trace.exists()
