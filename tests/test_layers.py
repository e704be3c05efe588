import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def test_no_lower_layer_imports_a_higher_one():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_module_has_a_layer():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    layers, own = settings["tool"]["importlinter"]["contracts"]
    layered = {module.strip() for layer in layers["layers"] for module in layer.split("|")}
    package = PROJECT / "src" / "fracture_mae"
    modules = {file.stem for file in package.glob("*.py")} | {
        folder.parent.name for folder in package.glob("*/__init__.py")
    }
    assert modules - {"__init__"} == layered
    beyond = {module.removeprefix("fracture_mae.") for module in own["source_modules"]}
    assert layered - beyond == {"tracking", "serving"}  # who may import MLflow
