"""Logits of a classifier for X-rays."""

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from fracture_mae.data.loading import XRays
from fracture_mae.models.classifier import FractureClassifier
from fracture_mae.processes import collectives
from fracture_mae.training.batches import in_batches, to_device

COLUMNS = ["path", "sha256", "label", "group", "source"]  # of the table of files, in each prediction


@torch.inference_mode()
def predict(classifier: FractureClassifier, xrays: XRays, *, batch_size: int, accelerator: Accelerator) -> pd.DataFrame:
    """One row per file: path, sha256, label, group, source and float64 logit; above 0 means the positive class.

    Several processes share the files, and each gets the whole table.
    """
    to_device(classifier, accelerator.device).eval()
    own = xrays.subset(collectives.share(len(xrays)))
    logits = []
    for batch in in_batches(own, batch_size, accelerator.device, f"Classifying {xrays.name}"):
        with accelerator.autocast():
            logits.append(classifier(batch.pixels).cpu().numpy())
    whole = [values for part in collectives.gather(logits) for values in part]
    return xrays.table[COLUMNS].assign(logit=np.concatenate(whole).astype(np.float64))
