"""Batches that a data set gives anew in every round, with its own random transforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icsnn_deploy.sources.batches import Batch, as_array, as_labels, split_batch
from icsnn_deploy.sources.data_sets import is_data_set, is_torch
from icsnn_deploy.sources.selection import Selection

_WHAT = "a calibration batch"


@dataclass(frozen=True, eq=False)
class FreshBatches:
    """A Dataset whose items are read again and again.

    Args:
        data_set: gives items by number.
        collate: puts items together; None: as PyTorch does.
        workers: processes that read.
        input_key: of dict batches, the entry that holds the samples.
        label_key: of dict batches, the entry that holds the labels.
        in_order: whether the user's loader gives the items in their order.
    """

    data_set: Any
    collate: Any = None
    workers: int = 0
    input_key: str | None = None
    label_key: str | None = None
    in_order: bool = False

    @classmethod
    def of(
        cls, source: Any, input_key: str | None, label_key: str | None = None
    ) -> FreshBatches | None:
        """The batches of a Dataset, or of a DataLoader of one; None of anything else.

        A loader's order is not kept, so that a sampler or batch sampler of the user's own, and a
        loader without batches, give None.
        """
        if is_torch(source, "DataLoader"):
            from torch.utils.data import RandomSampler, SequentialSampler

            in_order = isinstance(source.sampler, SequentialSampler)
            plain = isinstance(source.sampler, (RandomSampler, SequentialSampler))
            if not plain or source.batch_size is None or not is_data_set(source.dataset):
                return None
            return cls(
                source.dataset,
                source.collate_fn,
                source.num_workers,
                input_key,
                label_key,
                in_order,
            )
        if not is_data_set(source):
            return None
        return cls(source, input_key=input_key, label_key=label_key)

    def __len__(self) -> int:
        return len(self.data_set)

    def limited(self, limit: int) -> FreshBatches:
        """The same of at most `limit` items, spread over all; raises DataError below 1."""
        if limit >= len(self):
            return self
        from torch.utils.data import Subset

        numbers = Selection(limit).numbers(len(self))
        return replace(self, data_set=Subset(self.data_set, numbers))

    def sample(self, limit: int) -> list[int]:
        """The numbers of at most `limit` items, spread over all, in the order to use them."""
        if self.in_order and len(self) <= limit:
            return list(range(len(self)))
        return Selection(limit, mixed=True).numbers(len(self))

    def chosen(self, numbers: Sequence[int], size: int = 64) -> Iterator[Batch]:
        """The items of these numbers once, in this order, in batches of arrays."""
        for batch in self._loader(numbers, size, shuffle=False):
            yield self._arrays(batch)

    def endless(self, numbers: Sequence[int], size: int, seed: int) -> Iterator[Batch]:
        """Batches of `size` items of these numbers, in a new random order in each round."""
        loader = self._loader(numbers, min(size, len(numbers)), shuffle=True, seed=seed)
        while True:
            for batch in loader:
                yield self._arrays(batch)

    def _loader(self, numbers: Sequence[int], size: int, *, shuffle: bool, seed: int = 0) -> Any:
        import torch
        from torch.utils.data import DataLoader, Subset

        return DataLoader(
            Subset(self.data_set, list(numbers)),
            batch_size=size,
            shuffle=shuffle,
            drop_last=shuffle,
            collate_fn=self.collate,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(seed),
        )

    def _arrays(self, batch: Any) -> Batch:
        found = split_batch(batch, _WHAT, input_key=self.input_key, label_key=self.label_key)
        return Batch(as_array(found.samples, _WHAT), as_labels(found.labels))
