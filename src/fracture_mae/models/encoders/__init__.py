"""Networks that turn pictures into tokens: what a classifier is trained on, and what frozen features are read from."""

from fracture_mae.models.encoders.loading import MAE_TYPE, built, load, type_of
from fracture_mae.models.encoders.mae import MaeEncoder
from fracture_mae.models.encoders.network import NetworkEncoder
from fracture_mae.models.encoders.tokens import Encoder, Tokens

__all__ = ["MAE_TYPE", "Encoder", "MaeEncoder", "NetworkEncoder", "Tokens", "built", "load", "type_of"]
