"""Which classes and functions a saved model may name: a closed table, looked up, never imported."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

import medfusion_sdk

__all__ = ["OUR_PARTS", "Trust", "name_of"]

# What fitted estimators of this package hold beside public classes; a test keeps this complete.
OUR_PARTS = {
    "medfusion_sdk.encoders._token_states": ("TokenStateEncoder",),
    "medfusion_sdk.encoders._volume_inputs": ("VolumeInputs",),
    "medfusion_sdk.encoders.lab_text": ("LabTest",),
    "medfusion_sdk.encoders.modality_transformer": ("ModalityTransformer",),
    "medfusion_sdk.encoders.named_columns": ("NamedColumns",),
    "medfusion_sdk.estimators._amfn_reading": ("ImageReading", "SeriesReading", "TableReading"),
    "medfusion_sdk.estimators._calibration": ("Calibration",),
    "medfusion_sdk.estimators._cohort_reader": ("CohortReader",),
    "medfusion_sdk.estimators._cox_expert": ("CoxExpert",),
    "medfusion_sdk.estimators._expert": ("Expert",),
    "medfusion_sdk.estimators._forest": ("Forest",),
    "medfusion_sdk.estimators._gallery": ("Gallery",),
    "medfusion_sdk.estimators._layout": ("Layout",),
    "medfusion_sdk.estimators._mixture": ("Mixture",),
    "medfusion_sdk.estimators._ranks": ("RankScaling",),
    "medfusion_sdk.estimators._ridge_expert": ("RidgeExpert",),
    "medfusion_sdk.estimators._scaling": ("BlockScaling",),
    "medfusion_sdk.estimators._small_path": ("BlockPath", "CohortPath"),
    "medfusion_sdk.estimators._small_reading": ("CohortReading", "SeriesReading"),
}
# Modules of this package whose public classes a model may hold, and those with functions that
# compute and nothing else.
_OUR_COMPUTING = ("medfusion_sdk.metrics", "medfusion_sdk.survival")
_OUR_HOMES = ("medfusion_sdk", "medfusion_sdk.model_selection", *_OUR_COMPUTING)
# Packages of scikit-learn with estimators. Others open files, fetch data or run tests.
_SKLEARN = {
    *("calibration", "cluster", "compose", "covariance", "cross_decomposition"),
    *("decomposition", "discriminant_analysis", "dummy", "ensemble", "feature_extraction"),
    *("feature_selection", "frozen", "gaussian_process", "impute", "isotonic"),
    *("kernel_approximation", "kernel_ridge", "linear_model", "manifold", "metrics", "mixture"),
    *("model_selection", "multiclass", "multioutput", "naive_bayes", "neighbors"),
    *("neural_network", "pipeline", "preprocessing", "random_projection", "semi_supervised"),
    *("svm", "tree"),
}
# Estimators that scikit-learn keeps behind a switch.
_SWITCHED = {
    "sklearn.impute": ("sklearn.impute._iterative",),
    "sklearn.model_selection": ("sklearn.model_selection._search_successive_halving",),
}
# Classes beside estimators that fitted scikit-learn objects are made of; all of them plain Python.
_SKLEARN_PARTS = {
    "sklearn.calibration": ("_CalibratedClassifier",),
    "sklearn.compose._column_transformer": ("make_column_selector",),
    "sklearn.metrics._scorer": ("_MultimetricScorer", "_PassthroughScorer", "_Scorer"),
    "sklearn.utils._metadata_requests": ("MetadataRequest", "MethodMetadataRequest"),
}
_SPLITTERS = "sklearn.model_selection._split"
# Functions that compute and nothing else. Elsewhere there are some that read files or run code.
_COMPUTING = ("sklearn.feature_selection", "sklearn.metrics", "sklearn.preprocessing")
_NUMBERS = ("numpy", "scipy.special")
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
        Module and name, joined by a dot; what this package hands out goes by its public name.
    """
    name = str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "<unnamed>"))
    if isinstance(thing, np.ufunc):  # which don't know their module
        for home in _NUMBERS:
            if vars(importlib.import_module(home)).get(name) is thing:
                return f"{home}.{name}"
    module = str(getattr(thing, "__module__", None))
    public = module.startswith("medfusion_sdk.") and name in medfusion_sdk.__all__
    return f"medfusion_sdk.{name}" if public else f"{module}.{name}"


class Trust:
    """Finds what a saved model names, among installed code that is known to be harmless.

    Estimators of scikit-learn and of this package are; so are the parts of them listed above,
    functions that only compute, and what the user names. A name in a file imports nothing: it is
    looked up in what the modules listed here hold.

    Parameters
    ----------
    trusted : iterable of str
        Further modules, classes or functions, by their full names. Of these, and of nothing else,
        what a file names is imported.
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
        found = _table(_home(name)).get(name) or self._given(name)
        if inspect.isclass(found) and name not in _TYPES and not issubclass(found, np.generic):
            return found
        raise LookupError(_refusal(name))

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
        found = _TYPES.get(name) or _table(_home(name)).get(name)
        if found is not None and (not inspect.isclass(found) or _is_number(found)):
            return found
        given = self._given(name)
        if given is not None:
            return given
        raise LookupError(_refusal(name))

    def _given(self, name: str) -> Any:
        """What the user trusts by this name; None where they don't."""
        if not any(name == given or name.startswith(f"{given}.") for given in self._trusted):
            return None
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError):
            raise LookupError(
                f"{name} isn't in what is installed here; install the versions that the manifest "
                "lists, or save the model again"
            ) from None
        # A module also holds what it imported; only its own things go by its name.
        return found if name_of(found) == name else None


def _home(name: str) -> str:
    """The module of ours or of a library whose table may have a name; empty for none."""
    first, *rest = name.split(".")
    if first == "medfusion_sdk":
        return first
    if first == "sklearn" and rest and (rest[0] in _SKLEARN or rest[0] == "utils"):
        return f"{first}.{rest[0]}"
    return next((home for home in _NUMBERS if name.rpartition(".")[0] == home), "")


@cache
def _table(home: str) -> dict[str, Any]:
    """All that may be named of a home, by its name."""
    if home == "medfusion_sdk":
        found = _ours()
    elif home.startswith("sklearn."):
        found = _of_sklearn(home)
    elif home:
        found = _computing(importlib.import_module(home), home)
    else:
        return {}
    return {name_of(thing): thing for thing in found}


def _ours() -> Iterator[Any]:
    for home in _OUR_HOMES:
        module = importlib.import_module(home)
        for thing in (getattr(module, name) for name in module.__all__):
            if inspect.isclass(thing) or (inspect.isfunction(thing) and home in _OUR_COMPUTING):
                yield thing
    for home, names in OUR_PARTS.items():
        module = importlib.import_module(home)
        yield from (getattr(module, name) for name in names)


def _of_sklearn(home: str) -> Iterator[Any]:
    package = importlib.import_module(home)
    for switched in _SWITCHED.get(home, ()):
        importlib.import_module(switched)
    for kind in _descendants(BaseEstimator):
        if f"{kind.__module__}.".startswith(f"{home}."):
            yield kind
    for module_name, names in _SKLEARN_PARTS.items():
        if f"{module_name}.".startswith(f"{home}."):
            module = importlib.import_module(module_name)
            yield from (getattr(module, name) for name in names)
    if home == "sklearn.model_selection":
        splitters = vars(sys.modules[_SPLITTERS]).values()
        yield from (s for s in splitters if inspect.isclass(s) and s.__module__ == _SPLITTERS)
    if home in _COMPUTING:
        for module_name, module in list(sys.modules.items()):
            if f"{module_name}.".startswith(f"{home}.") and ".tests" not in module_name:
                yield from _computing(module, home)
        yield from _computing(package, home)


def _descendants(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield child
        yield from _descendants(child)


def _computing(module: ModuleType, home: str) -> Iterator[Any]:
    """Functions, ufuncs and types of numbers of a module; what it has imported counts elsewhere."""
    for thing in list(vars(module).values()):
        own = f"{getattr(thing, '__module__', '')}.".startswith(f"{home}.")
        plain = isinstance(thing, FunctionType) and own and home != "numpy"
        if plain or isinstance(thing, np.ufunc) or _is_number(thing):
            yield thing


def _is_number(thing: Any) -> bool:
    number = inspect.isclass(thing) and issubclass(thing, np.generic)
    return number or thing in _TYPES.values()


def _refusal(name: str) -> str:
    return (
        f"{name} isn't among the classes and functions that saved models may hold. If you "
        f"know it and the model's source, pass trusted=[{name!r}]"
    )
