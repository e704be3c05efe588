"""Prose, tables and pictures in, one HTML file out that needs nothing but itself: no script, style or image from elsewhere."""

from fracture_mae.pages.blocks import Block, Card, Cards, Folded, Picture, Prose, Section, Table
from fracture_mae.pages.rendering import render

__all__ = ["Block", "Card", "Cards", "Folded", "Picture", "Prose", "Section", "Table", "render"]
