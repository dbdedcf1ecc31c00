"""One read-only copy of each frozen network per process, for as long as somebody uses it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn

__all__ = ["BackboneKey", "BackbonePool", "FrozenModule", "shared_backbones"]


class FrozenModule(nn.Module):
    """A network that stays as its weights were published: no gradients, always in eval mode.

    Subclasses build their layers and then call :meth:`freeze`.

    Examples
    --------
    >>> from torch import nn
    >>> class Frozen(FrozenModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(2, 2)
    ...         self.freeze()
    >>> frozen = Frozen().train()
    >>> frozen.training, frozen.layer.weight.requires_grad
    (False, False)
    """

    def freeze(self) -> None:
        """Take the gradients from every parameter and switch to eval mode for good."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenModule:
        """Stay in eval mode; a parent module's ``train()`` reaches its children here.

        Parameters
        ----------
        mode : bool, default=True
            Ignored.

        Returns
        -------
        FrozenModule
            The module itself.
        """
        return super().train(False)


Backbone = TypeVar("Backbone", bound=nn.Module)


class BackboneKey(NamedTuple):
    """What makes two requests ask for the same copy.

    Attributes
    ----------
    fingerprint : str
        Digest of the weights, so that two names of the same files share one copy.
    device : torch.device
        Where the copy lies.
    dtype : torch.dtype
        Its precision.
    """

    fingerprint: str
    device: torch.device
    dtype: torch.dtype


class BackbonePool:
    """Lends networks to users and forgets each one when its last user is gone.

    Neither side is kept alive from here: a network lives as long as one of its users does, and
    a user (an encoder, say) carries no reference to it that a pickle, a clone or a deep copy
    could take along.

    Examples
    --------
    >>> import torch
    >>> class User: ...
    >>> pool, first, second = BackbonePool(), User(), User()
    >>> key = BackboneKey("digest", torch.device("cpu"), torch.float32)
    >>> lent = [pool.borrow(user, key, lambda: torch.nn.Linear(2, 2)) for user in (first, second)]
    >>> lent[0] is lent[1], len(pool)
    (True, 1)
    >>> del lent, first, second
    >>> len(pool)
    0
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._copies: WeakValueDictionary[BackboneKey, nn.Module] = WeakValueDictionary()
        self._lent: WeakKeyDictionary[Any, nn.Module] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._copies)

    def borrow(self, user: Any, key: BackboneKey, load: Callable[[], Backbone]) -> Backbone:
        """Return the copy for `key`, loading it if nobody in this process uses it yet.

        Parameters
        ----------
        user : object
            Who keeps the copy alive; it holds one at a time, so the one it had is given back.
        key : BackboneKey
            Which copy.
        load : callable
            Makes the network; called by one thread at a time.

        Returns
        -------
        Module
            The same object for every user of `key`.
        """
        with self._lock:
            backbone = self._copies.get(key)
            if backbone is None:
                # Before the new one is loaded, so that both needn't fit at once.
                self._lent.pop(user, None)
                backbone = self._copies[key] = load()
            self._lent[user] = backbone
            return backbone  # type: ignore[return-value]

    def give_back(self, user: Any) -> None:
        """End what a user has borrowed, if anything, before the user itself goes.

        Parameters
        ----------
        user : object
            Who borrowed.
        """
        with self._lock:
            self._lent.pop(user, None)

    def restart_in_child(self) -> None:
        """Make the pool usable in a forked process.

        Another thread may have held the lock when the fork came, and a forked process can't use its
        parent's CUDA context. Copies in main memory stay shared with the parent.
        """
        self._lock = threading.RLock()
        for key in [key for key in self._copies if key.device.type != "cpu"]:
            gone = self._copies.pop(key, None)
            for user in [user for user, lent in self._lent.items() if lent is gone]:
                del self._lent[user]


shared_backbones = BackbonePool()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=shared_backbones.restart_in_child)
