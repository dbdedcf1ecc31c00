"""Parameters and attributes of every kind come back equal; what isn't known is refused by name."""

from __future__ import annotations

import functools
import json
import math
import pathlib
import tracemalloc
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.special
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import f_classif
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from medfusion_sdk import load_estimator, save_estimator
from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.exceptions import CorruptModelError, UnsavableModelError
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold
from tests.persistence.test_folder import rewrite


def double(x):
    return 2 * x


class Attack:
    ran: ClassVar[list[str]] = []

    def __new__(cls, *arguments):
        cls.ran.append("new")
        return object.__new__(cls)


def saved_and_loaded(value, folder, **options):
    holder = FunctionTransformer(kw_args={"value": value})
    save_estimator(holder, folder / "model", **options)
    return load_estimator(folder / "model", **options).kw_args["value"]


PLAIN = {
    "none": None,
    "numbers": [True, 3, -0.0, 1e-308, 0.1, 10**40],
    "infinite": [math.inf, -math.inf],
    "text": ["", "é漢\n", "\ud800", "$tuple"],
    "bytes": b"\x00\xff",
    "tuple": (1, (2, "a"), [()]),
    "sets": [{3}, frozenset({1.5})],
    "keys": {1: "a", (2, "b"): "c", None: {}, False: 0, "a.b": {}, "$array": 1},
    "slice": [slice(1, None, -2), range(0, 10, 3)],
    "path": pathlib.Path("some") / "place",
    "dtypes": [np.dtype("f4"), np.dtype(">i2"), np.dtype([("a", "i4"), ("b", "f8", (2,))])],
    "types": [np.float64, np.int8, float, str],
    "functions": [np.log1p, scipy.special.expit, f_classif],
    "cache": EmbeddingCache("somewhere", max_bytes=100),
    "bunch": Bunch(a=1, b=(2,)),
}
ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "nan": np.array([np.nan, np.inf, -0.0]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "no axis": np.array(2.5),
    "empty": np.zeros((0, 3), dtype=np.int16),
    "big-endian": np.array([1, 2], dtype=">i4"),
    "complex": np.array([1 + 2j]),
    "half": np.array([0.5], dtype=np.float16),
    "bool": np.array([[True], [False]]),
    "texts": np.array([["a", ""], ["é", "long"]]),
    "bytes": np.array([b"a", b"bc"]),
    "objects": np.array([["a", None], [1.5, ("x", 2)]], dtype=object),
    "times": np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"),
    "records": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "every other": np.arange(10)[::2],
}
SCALARS = [np.float32(0.1), np.float64("nan"), np.int64(7), np.uint8(255), np.bool_(True)]
SCALARS += [np.str_("é"), np.float16(0.1)]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_value_comes_back_equal_and_of_its_type(name, tmp_path):
    back = saved_and_loaded(PLAIN[name], tmp_path)
    assert back == PLAIN[name]
    assert repr(back) == repr(PLAIN[name])  # True is no 1, -0.0 no 0.0


def test_nan_comes_back(tmp_path):
    assert math.isnan(saved_and_loaded(math.nan, tmp_path))


@pytest.mark.parametrize("name", ARRAYS)
def test_array_comes_back_with_its_bits_type_order_and_writable(name, tmp_path):
    array = ARRAYS[name]
    back = saved_and_loaded(array, tmp_path)
    np.testing.assert_array_equal(back, array, strict=True)
    assert back.dtype == array.dtype
    assert back.flags.writeable
    assert np.isfortran(back) == np.isfortran(array)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_numpy_scalar_comes_back_with_its_type(scalar, tmp_path):
    back = saved_and_loaded(scalar, tmp_path)
    assert type(back) is type(scalar)
    np.testing.assert_equal(back, scalar)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
def test_sparse_matrix_comes_back(kind, tmp_path):
    matrix = kind(np.array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]))
    back = saved_and_loaded(matrix, tmp_path)
    assert type(back) is kind
    np.testing.assert_array_equal(back.toarray(), matrix.toarray())


def test_table_comes_back(tmp_path):
    table = pd.DataFrame(
        {
            "loss": [0.5, np.nan],
            "note": ["a", None],
            "n": [1, 2],
            "day": pd.Timestamp("2024-01-01"),
        },
        index=pd.Index(["x", "y"], name="row"),
    )
    pd.testing.assert_frame_equal(saved_and_loaded(table, tmp_path), table)


@pytest.mark.parametrize(
    "index",
    [pd.RangeIndex(2, 8, 3, name="n"), pd.Index(["a", "b"]), pd.DatetimeIndex(["2024-02-29"])],
    ids=["range", "text", "times"],
)
def test_index_comes_back(index, tmp_path):
    pd.testing.assert_index_equal(saved_and_loaded(index, tmp_path), index)


def test_masked_array_comes_back(tmp_path):
    array = np.ma.MaskedArray([1.0, 2.0], mask=[True, False], fill_value=-1.0)
    back = saved_and_loaded(array, tmp_path)
    np.testing.assert_array_equal(back.mask, array.mask)
    np.testing.assert_array_equal(back.filled(), array.filled())


@pytest.mark.parametrize(
    "source", [np.random.RandomState(3), np.random.default_rng(3)], ids=["legacy", "generator"]
)
def test_random_source_goes_on_where_it_was(source, tmp_path):
    source.standard_normal(3)
    back = saved_and_loaded(source, tmp_path)
    assert back.standard_normal() == source.standard_normal()


def test_splitter_comes_back(tmp_path):
    back = saved_and_loaded(MultilabelStratifiedGroupKFold(n_splits=4), tmp_path)
    assert back.get_n_splits() == 4


def test_one_array_in_two_places_is_stored_once_and_stays_one(tmp_path):
    array = np.arange(1000.0)
    one, other = saved_and_loaded([array, array], tmp_path)
    assert one is other
    assert (tmp_path / "model" / "weights.safetensors").stat().st_size < 1.2 * array.nbytes


def test_two_ways_of_one_name_are_kept_apart(tmp_path):
    value = {"a.b": np.array([1.0]), "a": {"b": np.array([2.0])}}
    assert saved_and_loaded(value, tmp_path) == value


def make_cycle():
    cycle: list = []
    cycle.append(cycle)
    return cycle


UNSAVABLE = {
    "lambda": (lambda x: x, "has no name to find it by"),
    "own function": (double, r"test_values\.double isn't among"),
    "method": ([].append, "append"),
    "partial": (functools.partial(double), r"functools\.partial isn't among"),
    "class": (Attack, r"test_values\.Attack isn't among"),
    "object": (Attack(), r"test_values\.Attack isn't among"),
    "reader of pickles": (np.load, r"numpy\.load isn't among"),
    "evaluator": (eval, r"builtins\.eval isn't among"),
    "subclass of a list": (type("Rows", (list,), {})(), "Rows"),
    "exact number beyond JSON": (np.complex128(1j), "no exact form"),
    "cycle": (make_cycle(), "contains itself"),
}


@pytest.mark.parametrize("name", UNSAVABLE)
def test_unknown_value_is_refused_by_name_and_nothing_is_written(name, tmp_path):
    value, message = UNSAVABLE[name]
    with pytest.raises(UnsavableModelError, match=message):
        saved_and_loaded(value, tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusal_says_where_in_the_estimator_the_value_stands(tmp_path):
    with pytest.raises(UnsavableModelError, match=r"^func can't be saved"):
        save_estimator(FunctionTransformer(lambda x: x), tmp_path / "model")


def test_trusted_function_comes_back(tmp_path):
    assert saved_and_loaded(double, tmp_path, trusted=[f"{__name__}.double"]) is double
    with pytest.raises(CorruptModelError, match=r"double isn't among .* trusted="):
        load_estimator(tmp_path / "model")


def test_trusted_module_opens_its_names_and_no_namesakes(tmp_path):
    assert saved_and_loaded(double, tmp_path, trusted=[__name__]) is double
    with pytest.raises(CorruptModelError, match="isn't among"):
        load_estimator(tmp_path / "model", trusted=[__name__[:-1]])


def test_trusted_given_as_one_string_is_refused(tmp_path):
    with pytest.raises(TypeError, match="list of names"):
        save_estimator(FunctionTransformer(), tmp_path / "model", trusted="sklearn")


@pytest.mark.parametrize("kind", [RandomForestClassifier, HistGradientBoostingClassifier])
def test_compiled_parts_of_scikit_learn_come_back_where_trusted(kind, cohort, tmp_path):
    model = kind(random_state=0).set_params(max_leaf_nodes=4).fit(cohort.data, cohort.target)
    save_estimator(model, tmp_path / "model", trusted=["sklearn"])
    loaded = load_estimator(tmp_path / "model", trusted=["sklearn"])
    np.testing.assert_array_equal(
        loaded.predict_proba(cohort.data), model.predict_proba(cohort.data)
    )
    with pytest.raises(CorruptModelError, match="isn't among"):
        load_estimator(tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "numpy.load",
        "sklearn.base.warnings",
        "sklearn.base.os.system",
        "sklearn.datasets._base.load_files",
        "sklearn.utils._testing.TempMemmap",
        "tests.persistence.test_values.Attack",
        "medfusion_sdk.persistence._folder.shutil.rmtree",
        "medfusion_sdk.backbones.pool.BackbonePool",
        "",
        "LogisticRegression",
        "sklearn..base",
        "sklearn.no_such_module.Thing",
    ],
)
@pytest.mark.parametrize("form", ["class", "name"])
def test_forged_manifest_that_names_other_code_is_refused_and_runs_none(form, name, tmp_path):
    save_estimator(FunctionTransformer(), tmp_path / "model")
    forged = (
        {"$object": {"class": name, "at": "", "arguments": ["touch here"], "state": {}}}
        if form == "class"
        else {"$name": name}
    )
    Attack.ran.clear()
    rewrite(tmp_path / "model", lambda manifest: manifest.update(estimator=forged))
    with pytest.raises(CorruptModelError, match=r"manifest\.json"):
        load_estimator(tmp_path / "model")
    assert not Attack.ran


def test_forged_sparse_matrix_that_points_outside_is_refused(tmp_path):
    matrix = sp.csr_matrix(np.eye(2))
    matrix.indices[0] = 10**6
    with pytest.raises(CorruptModelError, match=r"manifest\.json"):
        saved_and_loaded(matrix, tmp_path)


def test_manifest_is_plain_json_that_names_class_parameters_and_versions(tmp_path):
    save_estimator(FunctionTransformer(np.log1p, validate=True), tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["class"].endswith(".FunctionTransformer")
    assert manifest["estimator"]["$object"]["state"]["func"] == {"$name": "numpy.log1p"}
    assert manifest["estimator"]["$object"]["state"]["validate"] is True
    assert {"medfusion_sdk", "numpy", "scikit-learn", "torch"} <= manifest["versions"].keys()


# -- forged values --------------------------------------------------------------------------------


def frame_of(**changed):
    index = {"$index": {"range": [0, 10**9, 1], "name": None}}
    frame = {"index": index, "columns": {"$index": {"range": [0, 1, 1], "name": None}}}
    return {"$frame": {**frame, "dtypes": ["float64"], "values": [0.0], **changed}}


LONG = {"$range": [0, 10**9, 1]}
STRINGS = {"at": "s", "shape": [2], "dtype": "<U250000000", "values": ["a", "b"]}
TWISTER = {"bit_generator": "MT19937", "state": {"key": LONG, "pos": 10**6}}
FORGED = {
    "frame of one number": frame_of(),
    "frame of a range": frame_of(values=[LONG]),
    "index of a range": {"$index": {"values": LONG, "dtype": "object", "name": None}},
    "wide strings": {"$array": STRINGS},
    "bytes by number": {"$scalar": ["V", 10**9]},
    "scalar of a structure": {"$scalar": [[["a", "f4"]], 1]},
    "generator beyond its words": {"$generator": TWISTER},
    "random state beyond its words": {
        "$random_state": {"$tuple": ["MT19937", LONG, 10**6, 0, 0.0]},
    },
    "generator of another kind": {"$generator": {"bit_generator": "Philox", "state": {}}},
    "sparse of nothing": {"$sparse": {"class": "csr_matrix", "shape": [10**9, 1]}},
    "mask of another shape": {"$masked": [[1.0, 2.0], [True] * 3, 0.0]},
    "unknown dtype": {"$dtype": "no such type"},
    "objects from bytes": {"$array": {"at": "coef_", "shape": [1], "dtype": {"$dtype": "O"}}},
    "unhashable": {"$set": [[1]]},
    "path of a number": {"$path": 3},
    "cache of a number": {"$cache": [3, None]},
    "bits of a long number": {"$bytes": "zz"},
    "dict of one": {"$dict": [[1]]},
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_value_is_refused_at_once_and_in_little_memory(name, tmp_path):
    save_estimator(FunctionTransformer(), tmp_path / "model")
    rewrite(tmp_path / "model", lambda manifest: manifest.update(estimator=FORGED[name]))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptModelError, match=r"manifest\.json"):
            load_estimator(tmp_path / "model")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_forged_history_is_refused(classifier, tmp_path):
    save_estimator(classifier, tmp_path / "model")

    def forge(manifest):
        state = manifest["estimator"]["$object"]["state"]
        state["history_"] = {"epoch": LONG}

    rewrite(tmp_path / "model", forge)
    with pytest.raises(CorruptModelError, match="made of arrays"):
        load_estimator(tmp_path / "model")


def test_array_that_a_forged_manifest_names_twice_is_refused(tmp_path):
    save_estimator(FunctionTransformer(kw_args={"a": np.arange(3)}), tmp_path / "model")

    def forge(manifest):
        arguments = manifest["estimator"]["$object"]["state"]["kw_args"]
        manifest["estimator"]["$object"]["state"]["kw_args"] = [arguments["a"]] * 2

    rewrite(tmp_path / "model", forge)
    with pytest.raises(CorruptModelError, match="comes twice"):
        load_estimator(tmp_path / "model")


def test_long_strings_that_were_cut_come_back_as_wide_as_they_were(tmp_path):
    cut = np.array(["a", "b", "c" * 300])[:2]
    back = saved_and_loaded(cut, tmp_path)
    assert back.dtype == cut.dtype
    np.testing.assert_array_equal(back, cut)
