"""What an explanation costs besides time."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(work: Callable[[], object]) -> float:
    """The most megabytes (2^20 bytes) that the tensors made by ``work`` take at any one time.

    It counts the results of operations on any device, including those kept for the backward pass, but not what an
    operation needs inside or what other libraries allocate: a property of the method, equal in every run.
    """
    with _Live() as live:
        work()
    return live.most / 2**20


class _Live(TorchDispatchMode):
    """Counts the bytes of the live storages that were made since it was entered."""

    def __init__(self):
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in before and storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, storage._cdata)
        return result

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)
