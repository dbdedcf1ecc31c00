"""Which classes and functions a saved model may name."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

__all__ = ["Trust", "name_of"]

# Classes beside estimators that fitted scikit-learn objects are made of; all of them plain Python.
_PARTS = {
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.metrics._scorer._MultimetricScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.utils._metadata_requests.MetadataRequest",
    "sklearn.utils._metadata_requests.MethodMetadataRequest",
}
# Splitters, which a search keeps.
_PART_HOMES = ("sklearn.model_selection._split.", "medfusion_sdk.model_selection.")
# Functions that compute and nothing else. Elsewhere there are some that read files or run code.
_FUNCTION_HOMES = (
    "medfusion_sdk.metrics.",
    "sklearn.feature_selection.",
    "sklearn.metrics.",
    "sklearn.preprocessing.",
)
_UFUNC_HOMES = ("numpy", "scipy.special")
_TYPES = {f"builtins.{kind.__name__}": kind for kind in (bool, int, float, str, object)}


def name_of(thing: Any) -> str:
    """Name under which a class or function is found again.

    Parameters
    ----------
    thing : class or callable
        What to name.

    Returns
    -------
    str
        Module and name, joined by a dot.
    """
    name = str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "<unnamed>"))
    if isinstance(thing, np.ufunc):  # which don't know their module
        for home in _UFUNC_HOMES:
            if getattr(importlib.import_module(home), name, None) is thing:
                return f"{home}.{name}"
    return f"{getattr(thing, '__module__', None)}.{name}"


class Trust:
    """Finds what a saved model names, among installed code that is known to be harmless.

    Estimators of scikit-learn and of this package are; so are the parts of them listed above,
    functions that only compute, and what the user names.

    Parameters
    ----------
    trusted : iterable of str
        Further modules, classes or functions, by their full names.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        if isinstance(trusted, str):
            raise TypeError(f"trusted must be a list of names, got the string {trusted!r}.")
        self._trusted = tuple(trusted)

    def find_class(self, name: str) -> type:
        """Find a class whose objects may be restored.

        Parameters
        ----------
        name : str
            From :func:`name_of`.

        Returns
        -------
        type
            The class.

        Raises
        ------
        LookupError
            If it isn't trusted, or isn't installed; the message says which.
        """
        kind = self._find(name, homes=("medfusion_sdk", "sklearn"))
        estimator = isinstance(kind, type) and issubclass(kind, BaseEstimator)
        part = name in _PARTS or name.startswith(_PART_HOMES)
        ours = name.startswith("medfusion_sdk.") and dataclasses.is_dataclass(kind)
        if isinstance(kind, type) and (estimator or part or ours or self._names(name)):
            return kind
        raise LookupError(self._refusal(name))

    def find_value(self, name: str) -> Any:
        """Find a function, or a type of numbers, that a model may hold.

        Parameters
        ----------
        name : str
            From :func:`name_of`.

        Returns
        -------
        callable
            The function or type.

        Raises
        ------
        LookupError
            If it isn't trusted, or isn't installed; the message says which.
        """
        if name in _TYPES:
            return _TYPES[name]
        value = self._find(name, homes=("medfusion_sdk", "sklearn", *_UFUNC_HOMES))
        number = isinstance(value, type) and issubclass(value, np.generic)
        public = name.rpartition(".")[0] == "scipy.special"  # plain functions under the array API
        computing = not isinstance(value, type) and (public or name.startswith(_FUNCTION_HOMES))
        if number or computing or isinstance(value, np.ufunc) or self._names(name):
            return value
        raise LookupError(self._refusal(name))

    def _names(self, name: str) -> bool:
        return any(name == given or name.startswith(f"{given}.") for given in self._trusted)

    def _find(self, name: str, homes: tuple[str, ...]) -> Any:
        module, _, attribute = name.rpartition(".")
        at_home = any(module == home or module.startswith(f"{home}.") for home in homes)
        # Asked before anything is imported: importing a module runs it.
        if not (at_home or self._names(name)) or not name.replace(".", "").isidentifier():
            raise LookupError(self._refusal(name))
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            raise LookupError(
                f"{name} isn't in what is installed here; install the versions that the manifest "
                "lists, or save the model again"
            ) from None
        # A module also holds what it imported; only its own things go by its name.
        if name_of(found) != name:
            raise LookupError(self._refusal(name))
        return found

    def _refusal(self, name: str) -> str:
        return (
            f"{name} isn't among the classes and functions that saved models may hold. If you "
            f"know it and the model's source, pass trusted=[{name!r}]"
        )
