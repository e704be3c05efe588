"""What answers in `mlflow models serve`."""
