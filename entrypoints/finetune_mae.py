"""Fine-tune the masked autoencoder on X-rays."""

from entrypoints import entry_point
from fracture_mae.config import FinetuneMae


@entry_point(FinetuneMae)
def main(config: FinetuneMae) -> None:
    from fracture_mae.tracking import runs

    with runs.run("finetune_mae", config) as run:
        from fracture_mae.stages.finetune import finetune_mae

        print(finetune_mae(config, run))


if __name__ == "__main__":
    main()
