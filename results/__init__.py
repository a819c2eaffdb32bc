"""What is known: one record per attempt at a training, and the tables that are views of them.

Reading order: ``schema`` (a record), ``parquet`` (its file), ``store`` (where records live),
``stats``, ``published`` (the paper's numbers), ``table`` (records to cells), ``effects`` (what
differs), ``notes`` (the lines below), ``render`` (cells to text), ``charts`` (to pictures). Only
the store's names are here: planning needs nothing else, and needs it fast.
"""

from results.schema import (
    SCHEMA_VERSION,
    EpochMetrics,
    Evaluation,
    Failure,
    Header,
    ImageCounts,
    Provenance,
    PseudoLabels,
    Record,
    Score,
)
from results.store import Store, StoreError, UnreadableRecordWarning

__all__ = [
    "SCHEMA_VERSION",
    "EpochMetrics",
    "Evaluation",
    "Failure",
    "Header",
    "ImageCounts",
    "Provenance",
    "PseudoLabels",
    "Record",
    "Score",
    "Store",
    "StoreError",
    "UnreadableRecordWarning",
]
