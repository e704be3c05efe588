"""What the project is measured against: the same work done in the ways that are usual elsewhere."""
