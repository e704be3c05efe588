"""The whole chain: baseline, fine-tuning, classifier, evaluation, each a child run of one parent."""

from pathlib import Path

from fracture_mae.config import Main
from fracture_mae.data.reading import index
from fracture_mae.tracking import stores
from fracture_mae.tracking.projects import Chain, Step
from fracture_mae.tracking.runs import Run


def chain(config: Main, run: Run) -> str:
    """Run all steps; their results, to print.

    Raises:
        FractureMaeError: a step failed; its own run holds the reason.
    """
    index.root_of(config.data_dir)  # built-in X-rays are made while the steps' libraries are read
    shared = config.shared()
    steps = Chain(run, config.env_manager)
    steps.run("reconstruct_baseline", shared | {"model": config.model})
    training = shared | {"recipe": config.recipe, "nproc": config.nproc}
    mae = steps.run(
        "finetune_mae",
        training | {"model": config.model, "epochs": config.mae_epochs, "unlabelled_dir": config.unlabelled_dir},
    )
    classifier = steps.run(
        "train_classifier", training | {"encoder": mae.registered, "epochs": config.classifier_epochs}
    )
    judging = {
        "classifier": classifier.registered,
        "mae": mae.registered,
        "n_draws": config.n_draws,
        "promote": config.promote,
    }
    judged = steps.run("evaluate", shared | judging)
    run.metrics(judged.metrics)
    run.tags({"registered": classifier.registered, "promotion": judged.tags["promotion"]})
    outcome = f"{classifier.registered}, {judged.tags['promotion']}"
    run.note(f"The whole chain with **{config.model}**, recipe `{config.recipe}`: {outcome}.")
    return f"{summary(mae, judged)}\nOpen the UI: {stores.ui()}"


def name_of(config: Main) -> str:
    """A name for the parent that tells chains apart in a list of runs."""
    is_made = config.data_dir.partition(":")[0] == "synthetic"
    data = config.data_dir if is_made else Path(config.data_dir).name
    return f"main ({config.model}, {config.recipe}, {data})"


def summary(mae: Step, judged: Step) -> str:
    """The results of a chain as a table to print."""
    lines = [
        f"{'validation, masked MSE relative to the mean of the visible pixels':<68}"
        f"{mae.metrics['baseline/validation/relative_masked_mse']:.3f} → {mae.metrics['validation/relative_masked_mse']:.3f}",
    ]
    if "test/relative_masked_mse" in judged.metrics:
        lines.append(f"{'the same on test':<68}{judged.metrics['test/relative_masked_mse']:.3f}")
    lines.append("test, each X-ray once:")
    for name in ("auroc", "average_precision", "balanced_accuracy", "sensitivity", "specificity"):
        value, low, high = (judged.metrics.get(f"test/xray/{name}{end}", float("nan")) for end in ("", "_low", "_high"))
        lines.append(f"  {name.replace('_', ' '):<66}{value:.3f}  [{low:.3f}, {high:.3f}]")
    for model in ("file_and_border_properties", "gradient_histograms"):
        value = judged.metrics.get(f"test/xray/auroc/all/{model}", float("nan"))
        lines.append(f"  {'auroc of the reference: ' + model.replace('_', ' '):<66}{value:.3f}")
    lines.append(f"shortcut warning: {judged.tags.get('shortcut_warning', 'not tested')}")
    return "\n".join([*lines, f"{judged.tags['classifier']}: {judged.tags['promotion']}"])
