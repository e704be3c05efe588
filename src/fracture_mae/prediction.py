"""Logits of a classifier for X-rays."""

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from fracture_mae.data import XRays
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.training import in_batches

COLUMNS = ["path", "sha256", "label", "group", "source"]  # of the table of files, in each prediction


@torch.inference_mode()
def predict(classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> pd.DataFrame:
    """One row per file: path, sha256, label, group, source and float64 logit; above 0 means the positive class."""
    classifier.to(accelerator.device).eval()
    logits = []
    for batch in in_batches(xrays, batch_size, accelerator.device, f"Classifying {xrays.name}"):
        with accelerator.autocast():
            logits.append(classifier(batch.pixels).cpu())
    return xrays.table[COLUMNS].assign(logit=torch.cat(logits).numpy().astype(np.float64))
