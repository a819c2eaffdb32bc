"""Takes paths; gives the one value that says where data and weights lie on this machine."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Locations:
    """Where things lie on this machine; never part of an identity.

    Args:
        data_root: the dataset's folder; None for ``shapes``.
        splits_root: the folder of split lists; None means ``splits`` below the dataset.
        weights: the backbone's weights file; None only when training from scratch.
        cache: the folder that keeps decoded images, on each machine; None for no cache.
        cache_bytes: how much it may hold.
    """

    data_root: Path | None = None
    splits_root: Path | None = None
    weights: Path | None = None
    cache: Path | None = None
    cache_bytes: int = 8 * 10**9

    def resolved(self) -> "Locations":
        """The same with absolute paths, for workers that stand elsewhere."""

        def absolute(path: Path | None) -> Path | None:
            return path and path.resolve()

        return replace(
            self,
            data_root=absolute(self.data_root),
            splits_root=absolute(self.splits_root),
            weights=absolute(self.weights),
            cache=absolute(self.cache),
        )
