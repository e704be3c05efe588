"""Networks: the masked autoencoder and the classifier on its encoder."""
