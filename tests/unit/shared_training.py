"""Small trainings that one process or several can do; for test_shared_training.py.

    python -m tests.unit.shared_training FOLDER

Writes FOLDER/histories.json: for each case the metrics of its epochs.
"""

import json
import sys
from pathlib import Path

from fracture_mae import classification, pretraining, ranks
from fracture_mae.checkpoints import Checkpoints, NoCheckpoints
from fracture_mae.config import FinetuneMae, TrainClassifier
from fracture_mae.models import mae as mae_model
from fracture_mae.training import make_accelerator
from tests import made

# Nine training files and six for validation. In steps of three two processes take two and one, in steps of one the second has none.
CASES = {
    "autoencoder": FinetuneMae(batch_size=4, epochs=3, rotation=10, intensity=0.3),
    "one at a time": FinetuneMae(batch_size=1, epochs=2, attention="sdpa"),
    "in parts": FinetuneMae(batch_size=9, epochs=3, weight_by="group", accumulation=3, checkpointing=True),
    "classifier": TrainClassifier(
        batch_size=5, epochs=3, drop_path=0.5, patch_dropout=0.5, class_weight="balanced", weight_by="group"
    ),
}


def train(config, root, accelerator):
    """Metrics of the epochs."""
    options = {
        "accelerator": accelerator,
        "checkpoints": Checkpoints(root, "training", resume=True) if ranks.is_first() else NoCheckpoints(),
        "log": lambda row, epoch: None,
    }
    mae = mae_model.load("vit-mae-nano", image_size=made.SIDE, seed=ranks.rank())  # only the first one's weights count
    with options["checkpoints"]:
        if isinstance(config, FinetuneMae):
            progress = pretraining.finetune(mae, made.dataset(), config, **options)
        else:
            classifier = classification.build(mae, config)
            progress = classification.train(classifier, made.dataset(), config, **options)
    accelerator.free_memory()
    return progress.history


def train_all(root):
    accelerator = make_accelerator("fp32", "cpu")
    return {name: train(config, root / name, accelerator) for name, config in CASES.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = train_all(folder)
    if ranks.is_first():
        (folder / "histories.json").write_text(json.dumps(found))
