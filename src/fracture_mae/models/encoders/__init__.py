"""Networks that turn pictures into tokens: what a classifier is trained on, and what frozen features are read from."""

from fracture_mae.models.encoders.loading import KINDS, MAE_TYPE, ViTEncoder, load, type_of
from fracture_mae.models.encoders.mae import MaeEncoder
from fracture_mae.models.encoders.tokens import Encoder, Tokens

__all__ = ["KINDS", "MAE_TYPE", "Encoder", "MaeEncoder", "Tokens", "ViTEncoder", "load", "type_of"]
