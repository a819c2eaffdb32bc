"""Takes logits; gives per pixel a pseudo-label, its weight and whether it is reliable."""

from csl.selection.selectors import Selection, select

__all__ = ["Selection", "select"]
