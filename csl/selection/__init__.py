"""Takes logits; gives per pixel a pseudo-label, its weight and whether it is reliable."""

from csl.selection.base import Selection, Selector
from csl.selection.selectors import SELECTORS, build_selector, select

__all__ = ["SELECTORS", "Selection", "Selector", "build_selector", "select"]
