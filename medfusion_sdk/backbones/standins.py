"""Networks with random weights that stand in for pretrained ones: say so, once."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

from medfusion_sdk.exceptions import RandomWeightsWarning

__all__ = ["STAND_IN", "warn_of_stand_in"]

STAND_IN = "standin-"

# What has been said in this process: class, parameter and network.
_said: set[tuple[str, str, str]] = set()


def warn_of_stand_in(user: Any, parameter: str, instead: str, *, stacklevel: int = 3) -> None:
    """Warn, once a process, that a parameter was left at a network with random weights.

    One that is no default was asked for by its name, which says what it is.

    Parameters
    ----------
    user : encoder or estimator
        Whose parameter it is.
    parameter : str
        Name of a constructor's parameter.
    instead : str
        What to give for it.
    stacklevel : int, default=3
        As of :func:`warnings.warn`, from here.
    """
    name = getattr(user, parameter)
    if not isinstance(name, str) or not name.startswith(STAND_IN):
        return
    usual = inspect.signature(type(user).__init__).parameters[parameter].default
    kind = type(user).__name__
    if name != usual or (kind, parameter, name) in _said:
        return
    warnings.warn(
        f"{kind}({parameter}={name!r}), the default, is a stand-in with random weights for tests "
        f"and first steps: no result of it is to be relied on. Give {instead}.",
        RandomWeightsWarning,
        stacklevel=stacklevel,
    )
    _said.add((kind, parameter, name))  # where the warning is an error it stays one
