"""Compare encoders by what a linear head reads from their frozen features, cross-validated."""

from entrypoints import entry_point
from fracture_mae.config import Compare


@entry_point(Compare)
def main(config: Compare) -> None:
    from functools import cache

    import click

    from fracture_mae import plots
    from fracture_mae.data import folds
    from fracture_mae.evaluation import judging
    from fracture_mae.stages import compare, inputs
    from fracture_mae.tracking import runs
    from fracture_mae.training.trainer import make_accelerator

    with runs.run("compare", config) as run:
        accelerator = make_accelerator(config.precision, config.device)
        names = compare.names_of(config.encoders)
        candidates = [compare.open_candidate(name, config) for name in names]  # all, before hours go into the first
        load = cache(lambda image_size: inputs.load_data(config, image_size))
        dataset = load(candidates[0].image_size)
        run.dataset(dataset)
        run.note(
            f"Frozen features, linear head, {config.n_folds} folds: {', '.join(names)}. {inputs.describe(dataset)}"
        )
        first = folds.joined(dataset)
        folds.check_enough(first, config.n_folds, f"--n-folds {config.n_folds}")
        fold = folds.assign(first.table, config.n_folds, config.seed)
        certainty = judging.Certainty(config.n_draws, config.seed)

        predictions = {}
        for candidate in candidates:
            xrays = folds.joined(load(candidate.image_size))
            with run.child(candidate.name) as child:
                predictions[candidate.name], told = compare.probe(candidate, xrays, fold, config, accelerator)
                child.tags({"encoder": candidate.name} | told | inputs.check_encoder_split(candidate.name, dataset))
                per_xray = judging.levels(predictions[candidate.name])["xray"]
                measured = compare.measure(per_xray, certainty)
                child.metrics({f"xray/{name}": value for name, value in measured.items()})
        if config.references:
            predictions |= compare.reference_predictions(first, fold, config.seed)
        what = f"{config.n_folds}-fold cross-validation per X-ray"
        title = plots.heading(what, first.name, len(first), len(set(first.group)))
        findings = compare.judge(predictions, title, certainty)
        run.report(findings)
        click.echo(compare.digest(findings))


if __name__ == "__main__":
    main()
