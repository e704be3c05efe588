"""What the entry points read of other projects, read before the first of them begins: see `warm_processes`."""

import gc
from importlib import import_module

for _name in (
    *("accelerate", "cv2", "imagecodecs", "jinja2", "markdown_it", "matplotlib.pyplot", "mlflow.pyfunc", "mlflow.data"),
    *("mlflow.store.tracking.sqlalchemy_store", "optuna.visualization.matplotlib", "scipy.cluster.hierarchy"),
    *("scipy.stats", "simplejpeg", "skimage.exposure", "skimage.feature", "skimage.metrics", "sklearn.ensemble"),
    *("sklearn.linear_model", "sklearn.model_selection", "sklearn.svm", "tifffile", "torch"),
    *("transformers.models.beit.modeling_beit", "transformers.models.vit.image_processing_pil_vit"),
    "transformers.models.vit_mae.modeling_vit_mae",
):
    import_module(_name)
gc.freeze()  # what is read once stays shared memory, as no fork's collector writes to it
