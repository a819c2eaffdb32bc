"""Takes names of images and masks; gives the lists' types and their content hashes.

Below both lists.py and the datasets, so that neither imports the other in a circle.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One image and, where the list names one, its mask.

    Args:
        image: POSIX path relative to the dataset's folder; for ``shapes`` such as ``train/00012``.
        mask: likewise. An unlabeled entry's mask is only information: nothing may need it.
    """

    image: str
    mask: str | None


@dataclass(frozen=True)
class SplitLists:
    """The lists of one split, in the order of their files.

    Args:
        labeled, unlabeled, val: the entries; every labeled and val entry has a mask.
        content_hash: 16 hex digits over the ordered names (of unlabeled entries: images only).
        fingerprint: 16 hex digits over the data behind the names.
    """

    labeled: tuple[Entry, ...]
    unlabeled: tuple[Entry, ...]
    val: tuple[Entry, ...]
    content_hash: str
    fingerprint: str


def hash_lists(labeled: Iterable[Entry], unlabeled: Iterable[Entry], val: Iterable[Entry]) -> str:
    """``SplitLists.content_hash`` of these entries."""
    return digest(
        [
            [[entry.image, entry.mask] for entry in labeled],
            [entry.image for entry in unlabeled],
            [[entry.image, entry.mask] for entry in val],
        ]
    )


def digest(content: object) -> str:
    """SHA-256 of a value's JSON, 16 hex digits; the order of its keys does not count."""
    return digest_text(canonical(content))


def canonical(content: object) -> str:
    """A value's JSON, however its keys are ordered."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def digest_text(text: str) -> str:
    """SHA-256 of a text, 16 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
