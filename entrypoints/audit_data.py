"""Show how honest a data set is: copies, leakage, label conflicts, shortcuts, and what a leaky split would claim."""

from entrypoints import entry_point
from fracture_mae.config import AuditData


@entry_point(AuditData)
def main(config: AuditData) -> None:
    from fracture_mae.tracking import runs

    with runs.run("audit_data", config) as run:
        from fracture_mae.audit.audit_data import audit_data

        for found in audit_data(config, run):
            print(found)


if __name__ == "__main__":
    main()
