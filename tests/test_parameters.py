"""The pieces that tables of parameters are made of, and the tables of all estimators."""

from __future__ import annotations

import inspect
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer

from medfusion_sdk import (
    AdaCoMedClassifier,
    AMFNClassifier,
    AMFNRegressor,
    DualAdapterClassifier,
    DualAdapterEmbedder,
    LabTextEncoder,
    SignalEncoder,
    SkipMissing,
    SmallMultimodalClassifier,
    TextEncoder,
)
from medfusion_sdk._parameters import (
    FLAG,
    NONE,
    RANDOM_STATE,
    Having,
    InstanceOf,
    ListOf,
    MappingTo,
    Number,
    OneOf,
    Whole,
    check_parameters,
)
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.training import TrainingConfig

# -- pieces -------------------------------------------------------------------------------------

SHARE = Number(least=0, below=1)
COUNT = Whole(least=1) | OneOf("auto")


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        (
            SHARE,
            [0, 0.0, 0.5, np.float32(0.5), np.float64(0), np.int64(0), np.uint8(0)],
            [-1e-9, 1, 1.0, np.float32(1), np.nan, np.float32("nan"), np.inf, "0.5", None, 0.5j],
        ),
        (SHARE, [], [True, False, np.True_, np.False_, np.array(0.5), [0.5], object()]),
        (Number(above=0, most=1), [1, 1e-300], [0, -0.0, 1.1, -np.inf]),
        (Number(), [-3, 1e300], [np.nan, np.inf, "3"]),
        (COUNT, [1, np.int64(8), 10**9, "auto"], [0, -1, 8.0, np.float64(8), "8", "Auto", True]),
        (FLAG, [True, False, np.True_, np.False_], [1, 0, 1.0, None, "True", np.array(True)]),
        (OneOf("a", "b", None), ["a", None, np.str_("b")], ["c", "", 0, False, ["a"], ("a",)]),
        (FLAG | OneOf("auto"), [True, np.False_, "auto"], [1, "yes", None]),
        (RANDOM_STATE, [0, np.int64(7), None, np.random.RandomState(0)], [-1, 2**32, 0.5, True]),
        (InstanceOf(dict) | NONE, [{}, None], [dict, [], "balanced"]),
        (Having("fit", "transform"), [CountVectorizer()], [CountVectorizer, "drop", None]),
        (
            ListOf(Whole(least=1), length=2),
            [(12, 1000), [1, 1], np.array([3, 4]), pd.Index([3, 4])],
            [(12,), (1, 2, 3), (0, 5), "12", {1: 2, 3: 4}, {1, 2}, 12, np.ones((2, 2)), (1.0, 2)],
        ),
        (ListOf(InstanceOf(str)), [[], ["ecg"], ("ecg", "note")], ["ecg", [1], None, b"ecg"]),
        (MappingTo(OneOf("x")), [{}, {"a": "x"}], [{"a": "y"}, "x", [("a", "x")]]),
        (MappingTo(Number(), keys=("a", "b")), [{}, {"b": 1}], [{"c": 1}, {"a": "1"}, {"a": True}]),
    ],
    ids=lambda shown: str(shown)[:40],
)
def test_piece_tells_good_values_from_bad(allowed, good, bad):
    assert [value for value in good if not allowed.allows(value)] == []
    assert [value for value in bad if allowed.allows(value)] == []


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (Number(), "a number"),
        (SHARE, "a number >= 0 and < 1"),
        (Number(above=0, most=1), "a number > 0 and <= 1"),
        (COUNT, "a whole number >= 1 or 'auto'"),
        (OneOf("a", "b", None), "'a', 'b' or None"),
        (InstanceOf(dict, list) | NONE, "a dict, a list or None"),
        (Having("fit", "transform"), "an object with fit and transform"),
        (ListOf(Whole(least=1), length=2), "a list (2 values, each a whole number >= 1)"),
        (
            OneOf("x") | MappingTo(OneOf("x", "y"), keys=("a", "b")),
            "'x' or a mapping from 'a' or 'b' (each to 'x' or 'y')",
        ),
    ],
    ids=str,
)
def test_piece_says_what_is_allowed(allowed, words):
    assert str(allowed) == words


# -- tables -------------------------------------------------------------------------------------

NEEDED = {
    LabTextEncoder: {"labs": {"crp": ("mg/L", None, 5)}},
    SkipMissing: {"transformer": CountVectorizer()},
}
CLASSES = [
    SmallMultimodalClassifier,
    AdaCoMedClassifier,
    DualAdapterClassifier,
    DualAdapterEmbedder,
    AMFNClassifier,
    AMFNRegressor,
    TextEncoder,
    SignalEncoder,
    LabTextEncoder,
    SkipMissing,
]
# Names of columns, files, devices: only the data, the disk or the machine can tell.
NOT_IN_TABLES = {
    "backbone",
    "cache",
    "device",
    "labs",
    "modalities",
    "revision",
    "signal",
    "template",
    "text",
}
EVERY_CLASS = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
EVERY_PARAMETER = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in CLASSES for name in kind._allowed]
)
# One value at least of each sort is none that a parameter may have.
ODD = [np.nan, np.inf, -1, 0, 2.5, True, "no such value", None, {"a": object()}, object()]


def make(kind, **parameters):
    return kind(**NEEDED.get(kind, {}) | parameters)


def beyond(allowed):
    """Values on the wrong side of a table entry's bounds, each by as little as can be."""
    for piece in getattr(allowed, "alternatives", (allowed,)):
        if hasattr(piece, "alternatives"):
            yield from beyond(piece)
        if isinstance(piece, Number):
            step = 1 if isinstance(piece, Whole) else 1e-9
            yield from [] if piece.least is None else [piece.least - step]
            yield from [] if piece.most is None else [piece.most + step]
            yield from (bound for bound in (piece.above, piece.below) if bound is not None)


@EVERY_CLASS
def test_defaults_are_allowed(kind):
    check_parameters(make(kind))


@EVERY_CLASS
def test_no_parameter_is_forgotten(kind):
    parameters = set(inspect.signature(kind).parameters)
    assert parameters - set(kind._allowed) <= NOT_IN_TABLES
    assert set(kind._allowed) <= parameters


@EVERY_PARAMETER
def test_odd_value_is_refused_by_name_before_anything_is_read(kind, name):
    allowed = kind._allowed[name]
    refused = [value for value in ODD if not allowed.allows(value)] + list(beyond(allowed))
    assert len(refused) >= 2
    for value in refused:
        estimator = make(kind, **{name: value})
        assert estimator.get_params(deep=False)[name] is value
        with pytest.raises(ParameterError) as caught:
            estimator.fit(None, None)
        assert str(caught.value) == f"{kind.__name__}: {name} must be {allowed}, got {value!r}."


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (SmallMultimodalClassifier, "alpha", -1),
        (SmallMultimodalClassifier, "dropout", 2),
        (SmallMultimodalClassifier, "dropout", 1.0),
        (SmallMultimodalClassifier, "embed_size", 0),
        (SmallMultimodalClassifier, "learning_rate", 0),
        (SmallMultimodalClassifier, "learning_rate", "0.01"),
        (SmallMultimodalClassifier, "validation_fraction", 1.5),
        (SmallMultimodalClassifier, "n_iter_no_change", 0),
        (SmallMultimodalClassifier, "max_epochs", 0),
        (SmallMultimodalClassifier, "max_epochs", "100"),
        (SmallMultimodalClassifier, "max_epochs", True),
        (SmallMultimodalClassifier, "batch_size", 2.5),
        (SmallMultimodalClassifier, "scaling", "bloc_"),
        (SmallMultimodalClassifier, "scaling", {"ecg": "bloc_"}),
        (SmallMultimodalClassifier, "class_weight", "balance"),
        (SmallMultimodalClassifier, "early_stopping", 1),
        (SmallMultimodalClassifier, "random_state", -1),
        (AdaCoMedClassifier, "alpha", float("nan")),
        (AdaCoMedClassifier, "n_heads", 0),
        (AdaCoMedClassifier, "temperature", 0),
        (AdaCoMedClassifier, "large_modalities", "ecg"),
        (AdaCoMedClassifier, "strategy_params", {"sgima": 1.0}),
        (AdaCoMedClassifier, "small", SmallMultimodalClassifier),
        (AdaCoMedClassifier, "match_norm", "no"),
        (DualAdapterClassifier, "lr_gamma", 0.0),
        (DualAdapterClassifier, "signal_shape", 12),
        (DualAdapterClassifier, "signal_encoder", "rnn"),
        (DualAdapterClassifier, "adapter_layers", 0),
        (DualAdapterEmbedder, "contrastive_start", 1.1),
        (DualAdapterEmbedder, "aug_noise", -0.1),
        (TextEncoder, "normalize", 1),
        (TextEncoder, "max_length", True),
        (SignalEncoder, "leads", "II"),
        (SignalEncoder, "fs", float("inf")),
        (SkipMissing, "transformer", "tfidf"),
    ],
)
def test_mistake_is_refused_by_name(kind, name, value):
    with pytest.raises(ParameterError, match=f"^{kind.__name__}: {name} must be "):
        make(kind, **{name: value}).fit(None, None)


@EVERY_CLASS
def test_constructor_and_clone_take_every_value(kind):
    odd = make(kind, **dict.fromkeys(kind._allowed, "no such value"))
    assert clone(odd).get_params(deep=False) == odd.get_params(deep=False)


def test_estimator_inside_another_is_checked_with_it():
    inner = SmallMultimodalClassifier(alpha=-1)
    with pytest.raises(ParameterError, match=r"^SmallMultimodalClassifier: alpha must"):
        AdaCoMedClassifier(small=inner).fit(None, None)
    with pytest.raises(ParameterError, match=r"^SignalEncoder: fs must be a number >= 50"):
        DualAdapterClassifier(signal_encoder=SignalEncoder(view="beats", fs=9)).fit(None, None)
    with pytest.raises(ParameterError, match=r"^TextEncoder: pooling must"):
        DualAdapterEmbedder(secondary_text_encoder=TextEncoder(pooling="max")).fit(None)


def test_choices_are_those_of_the_networks():
    from medfusion_sdk.backbones.signal_networks import SIGNAL_BACKBONES
    from medfusion_sdk.nn.fusion import COMBINATIONS
    from medfusion_sdk.nn.weighting import STRATEGIES, path_weights

    adacomed = AdaCoMedClassifier._allowed
    assert str(adacomed["strategy"]) == str(OneOf("auto", *STRATEGIES))
    assert str(DualAdapterClassifier._allowed["combine"]) == str(OneOf(*COMBINATIONS))
    assert str(SignalEncoder._allowed["backbone"]) == str(OneOf(*SIGNAL_BACKBONES))
    constants = [
        name
        for name, parameter in inspect.signature(path_weights).parameters.items()
        if isinstance(parameter.default, float)
    ]
    assert adacomed["strategy_params"].allows(dict.fromkeys(constants, 1.0))


def test_training_configuration_has_a_table_for_all_its_fields():
    assert set(TrainingConfig._allowed) == {field.name for field in fields(TrainingConfig)}
    with pytest.raises(ParameterError, match="TrainingConfig: n_iter_no_change must"):
        TrainingConfig(n_iter_no_change=2.5)
