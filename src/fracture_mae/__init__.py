"""Masked autoencoders and fracture classification on bone X-rays."""
