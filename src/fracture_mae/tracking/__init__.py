"""MLflow, which nobody else imports but what is served: runs, registry, registered models."""
