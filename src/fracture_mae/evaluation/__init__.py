"""From predictions to a report: prediction, reconstruction, operating points, out of fold, references."""
