"""The whole chain: baseline, fine-tuning, classifier, evaluation, each a child run of one parent."""

from entrypoints import entry_point
from fracture_mae.config import Main


@entry_point(Main)
def main(config: Main) -> None:
    from fracture_mae.tracking import warm_processes

    if config.env_manager == "local":
        warm_processes.start()  # before MLflow is read
    from fracture_mae.stages.chain import chain, name_of
    from fracture_mae.tracking import runs

    with runs.run("main", config, name_of(config)) as run:
        print(chain(config, run))


if __name__ == "__main__":
    main()
