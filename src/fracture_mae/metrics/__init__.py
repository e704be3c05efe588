"""Arrays in, numbers out: scores, thresholds, calibration and intervals; no torch, no MLflow."""
