"""Features of tiles are kept within a memory budget: computing them is what takes time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from napari_unet.core.features import FeatureTile

MEMORY = 2**29
"""Bytes of features that are kept of one set of weights.

There are two of them while new weights come: 1 GiB in all, beside what judging them takes.
"""


class FeatureCache:
    """Features of tiles, as many as fit into the memory; those not used for longest go first."""

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._tiles: OrderedDict[Hashable, FeatureTile] = OrderedDict()
        self._bytes = self._largest = 0

    def get(self, place: Hashable) -> FeatureTile | None:
        """Return the features of a tile, if they are there."""
        found = self._tiles.get(place)
        if found is not None:
            self._tiles.move_to_end(place)
        return found

    def __contains__(self, place: Hashable) -> bool:
        return place in self._tiles

    def add(self, place: Hashable, features: FeatureTile) -> None:
        """Keep the features of a tile; others may have to go for them."""
        earlier = self._tiles.pop(place, None)
        self._bytes -= earlier.bytes if earlier else 0
        self._tiles[place] = features
        self._bytes += features.bytes
        self._largest = max(self._largest, features.bytes)
        while self._bytes > self._memory and len(self._tiles) > 1:
            _, gone = self._tiles.popitem(last=False)
            self._bytes -= gone.bytes

    def fits(self, wanted: int) -> int:
        """Return how many of so many tiles fit in together, by the largest that was there yet.

        More would push each other out for ever. One always may be there.
        """
        return max(1, min(wanted, self._memory // max(self._largest, 1)))
