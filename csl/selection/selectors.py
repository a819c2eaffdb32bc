"""Takes a selection's configuration; gives its selector from the registry of all of them."""

from torch import Tensor

from csl.config import SelectionConfig
from csl.selection.base import Selection, Selector
from csl.selection.csl_selector import CslSelector
from csl.selection.thresholds import CorrMatch, Daw, FixedThreshold, FlexMatch, FreeMatch
from csl.selection.weightings import Ael, PseudoSeg, SoftMatch, U2pl

SELECTORS: dict[str, type[Selector]] = {
    "csl": CslSelector,
    "threshold": FixedThreshold,
    "flexmatch": FlexMatch,
    "freematch": FreeMatch,
    "softmatch": SoftMatch,
    "ael": Ael,
    "daw": Daw,
    "u2pl": U2pl,
    "corrmatch": CorrMatch,
    "pseudoseg": PseudoSeg,
}
"""The class behind each name of ``selection.selector``; its docstring has the equation."""


def build_selector(config: SelectionConfig, classes: int) -> Selector:
    """A new selector, in training mode, at the start of its state."""
    return SELECTORS[config.selector](config, classes)


def select(logits: Tensor, valid: Tensor, config: SelectionConfig) -> Selection:
    """What a new selector says of one batch; arguments as of ``Selector.forward``."""
    return build_selector(config, logits.shape[1])(logits, valid)  # type: ignore[no-any-return]
