"""LabTextEncoder: what the sentences say, and that a row's sentence is its row's alone."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfusion_sdk.embedding_cache import EmbeddingCache
from medfusion_sdk.encoders._lab_sentences import write_sentence
from medfusion_sdk.encoders.lab_text import LabTest, LabTextEncoder
from medfusion_sdk.encoders.text import TextEncoder
from medfusion_sdk.exceptions import CellError, EncoderWarning, ParameterError

STANDIN = "standin-text"
POTASSIUM = LabTest("mmol/L", 3.5, 5.1, name="potassium")


def sentence(value, test=POTASSIUM, template=None):
    return write_sentence({"k": test}, [value], template)


@pytest.mark.parametrize(
    ("value", "status"), [(3.4, "low"), (3.5, "normal"), (5.1, "normal"), (5.2, "high")]
)
def test_sentence_gives_value_unit_range_and_status(value, status):
    assert sentence(value) == f"potassium {value} mmol/L (reference 3.5 to 5.1), {status}."


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (LabTest("mg/L", None, 5), "k 7 mg/L (reference at most 5), high."),
        (LabTest("mL/min", 60), "k 7 mL/min (reference at least 60), low."),
        (LabTest("mL/min", 0), "k 7 mL/min (reference at least 0), normal."),
        (LabTest("s"), "k 7 s."),
        (LabTest(low=6, high=8), "k 7 (reference 6 to 8), normal."),
        (LabTest(), "k 7."),
    ],
)
def test_sentence_leaves_out_what_is_not_known(test, expected):
    assert sentence(7, test) == expected


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (140, "140"),
        (140.0, "140"),
        (np.float32(5.3), "5.3"),
        (0.1 + 0.2, "0.3"),
        (np.int64(250_000), "250000"),
        (1e-7, "0.0000001"),
        (1_234_567.8, "1234570"),
        (-2.5, "-2.5"),
        ("5.30", "5.3"),
        ("<0.01", "<0.01"),
        (" positive ", "positive"),
    ],
)
def test_values_are_written_the_same_whatever_their_type(value, written):
    assert sentence(value, LabTest()) == f"k {written}."


@given(st.floats(-1e9, 1e9))
def test_written_number_says_its_own_status(value):
    text = sentence(value, LabTest(low=-1.5, high=3.25), "{value}[ {status}]")
    written, status = text.removesuffix(".").split()
    number = float(written)
    assert number == pytest.approx(value, rel=5e-6, abs=1e-300)
    assert status == ("low" if number < -1.5 else "high" if number > 3.25 else "normal")


def near(bound):
    """Values at and around a bound: neighbours in both precisions, and what rounds to it."""
    steps = st.sampled_from([0, 1e-16, 1e-12, 1e-9, 6e-8, 1.2e-7, 1e-6, 4e-6, 1e-5, 1e-3, 1])
    return st.builds(
        lambda step, sign: bound + sign * step * abs(bound), steps, st.sampled_from([-1, 1])
    )


bounds = st.floats(-1e12, 1e12) | st.sampled_from([0.0, 5.0, 1_234_560, 0.004, 3.5000004])


@given(st.data(), bounds, st.floats(0, 1e6))
def test_status_is_what_a_reader_of_the_sentence_would_say(data, low, width):
    high = low + width
    value = data.draw(near(low) | near(high) | st.floats(-1e15, 1e15))
    number = data.draw(st.sampled_from([float, np.float32, lambda x: x if x % 1 else int(x)]))(
        value
    )
    written, low_seen, high_seen, status = (
        write_sentence({"k": LabTest("u", low, high)}, [number], "{value} {reference} {status}")
        .removesuffix(".")
        .replace(" to ", " ")
        .split()
    )
    said = float(written)
    seen = "low" if said < float(low_seen) else "high" if said > float(high_seen) else "normal"
    assert status == seen
    # Where single precision tells value and bounds apart, the truth is told.
    single = [float(np.float32(x)) for x in (number, low, high)]
    if all(abs(x) > 1e-30 or x == 0 for x in (number, low, high)):
        truth = "low" if single[0] < single[1] else "high" if single[0] > single[2] else "normal"
        assert status == truth


@pytest.mark.parametrize(
    ("value", "high", "expected"),
    [
        (5.0000001, 5.0, "5 (reference at most 5), normal"),  # not told apart in float32
        (5.000002, 5.0, "5.000002 (reference at most 5), high"),
        (1_234_564, 1_234_560, "1234564 (reference at most 1234560), high"),
        (1_234_560, 1_234_560, "1234560 (reference at most 1234560), normal"),
        (-0.0, 0, "0 (reference at most 0), normal"),
        (-1e-300, 0, "-1e-300 (reference at most 0), normal"),
        (1e22, 1, "1e+22 (reference at most 1), high"),
        (Decimal("7.50"), 7.5, "7.5 (reference at most 7.5), normal"),
        (10**20, 1e21, "1e+20 (reference at most 1e+21), normal"),
    ],
)
def test_digits_are_shown_where_the_status_hangs_on_them(value, high, expected):
    assert sentence(value, LabTest(high=high)) == f"k {expected}."


@pytest.mark.parametrize("value", ["1_000", "5,3", "12 h"])
def test_text_that_python_alone_would_read_as_a_number_stays_text(value):
    assert sentence(value) == f"potassium {value} mmol/L (reference 3.5 to 5.1)."


@pytest.mark.parametrize(
    "value",
    [10**400, 10**5000, Decimal("NaN"), "1e400", "-inf"],
    ids=["400", "5000", "nan", "text", "-inf"],
)
def test_number_that_is_not_finite_is_an_error(value):
    with pytest.raises(CellError, match="isn't a finite number"):
        sentence(value)


@pytest.mark.parametrize(
    "wrong",
    [("u", float("nan")), ("u", None, float("inf")), ("u", 5, 3), ("u", "3"), (None,), (3,)],
)
def test_test_with_a_bound_that_is_none_is_refused(wrong):
    with pytest.raises(ParameterError, match="LabTest"):
        LabTest(*wrong)
    encoder = LabTextEncoder({"k": wrong}, backbone=STANDIN)
    with pytest.raises(ParameterError, match="LabTest"):
        encoder.fit_transform(pd.DataFrame({"k": [4.0]}))


def test_float32_bound_is_not_exceeded_by_its_own_rounding():
    assert float(np.float32(5.3)) > 5.3
    assert sentence(np.float32(5.3), LabTest(high=5.3)).endswith("normal.")


def test_text_that_is_no_number_has_no_status():
    assert sentence("haemolysed") == "potassium haemolysed mmol/L (reference 3.5 to 5.1)."


def test_template_of_the_user_is_followed():
    template = "{name} is {status}[ at {value}{unit}]"
    assert sentence(6, LabTest("%", 1, 5), template) == "k is high at 6%."
    assert sentence(6, LabTest("", 1, 5), template) == "k is high."


@pytest.fixture
def labs():
    return pd.DataFrame(
        {"k": [5.9, None, None, 4.0], "crp": [2.0, 9.0, None, ""], "age": [1, 2, 3, 4]},
        index=["a", "b", "c", "d"],
    )


CONFIGURED = {"k": POTASSIUM, "crp": ("mg/L", None, 5)}


def test_sentences_hold_the_tests_that_were_done_in_declared_order(labs):
    encoder = LabTextEncoder(CONFIGURED, backbone=STANDIN)
    sentences = encoder.to_sentences(labs[["crp", "age", "k"]])
    assert sentences.index.equals(labs.index)
    assert sentences["a"] == (
        "potassium 5.9 mmol/L (reference 3.5 to 5.1), high; "
        "crp 2 mg/L (reference at most 5), normal."
    )
    assert sentences["b"] == "crp 9 mg/L (reference at most 5), high."
    assert sentences["c"] is None
    assert sentences["d"] == "potassium 4 mmol/L (reference 3.5 to 5.1), normal."


def test_embeddings_are_those_of_the_sentences(labs):
    encoder = LabTextEncoder(CONFIGURED, backbone=STANDIN, pooling="cls")
    text = TextEncoder(STANDIN, pooling="cls").transform(encoder.to_sentences(labs))
    np.testing.assert_array_equal(encoder.fit_transform(labs), text)
    assert np.isnan(text).all(axis=1).tolist() == [False, False, True, False]


def test_cache_serves_rows_with_the_same_values(labs, tmp_path):
    cache = EmbeddingCache(tmp_path)
    encoder = LabTextEncoder(CONFIGURED, backbone=STANDIN, cache=cache)
    encoder.fit_transform(labs)
    encoder.transform(labs.iloc[::-1].assign(age=0))
    assert cache.stats().misses == 3


@pytest.mark.parametrize("value", [np.inf, "-inf", True, [1], {}, 3j], ids=str)
def test_unusable_value_is_named_by_row_and_test(value):
    X = pd.DataFrame({"k": pd.Series([4.0, value], index=["a", "b"], dtype=object), "crp": 1.0})
    encoder = LabTextEncoder(CONFIGURED, backbone=STANDIN)
    with pytest.raises(CellError, match=r"row 'b'.*lab 'k'"):
        encoder.fit_transform(X)
    with pytest.raises(CellError, match=r"row 'b'.*lab 'k'"):
        encoder.to_sentences(X)


def test_row_with_an_unusable_value_counts_as_missing_on_request():
    X = pd.DataFrame({"k": [4.0, np.inf], "crp": 1.0})
    encoder = LabTextEncoder(CONFIGURED, backbone=STANDIN, on_error="missing")
    with pytest.warns(EncoderWarning, match="lab 'k'"):
        block = encoder.fit_transform(X)
    assert np.isnan(block).all(axis=1).tolist() == [False, True]


def test_absent_column_is_named(labs):
    with pytest.raises(CellError, match="no column 'crp'"):
        LabTextEncoder(CONFIGURED, backbone=STANDIN).fit(labs[["k"]])


def test_bare_array_is_refused_with_the_columns_it_needs():
    with pytest.raises(CellError, match=r"DataFrame with the columns \['k', 'crp'\]"):
        LabTextEncoder(CONFIGURED, backbone=STANDIN).fit(np.ones((2, 2)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"labs": {}},
        {"labs": ["k"]},
        {"labs": {"k": 3.5}},
        {"labs": {"k": ("mmol/L", 1, 2, "name", "more")}},
        {"template": "{name} {valeu}"},
        {"pooling": "max"},
    ],
    ids=str,
)
def test_wrong_parameter_is_named(labs, wrong):
    options = {"labs": CONFIGURED, "backbone": STANDIN} | wrong
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        LabTextEncoder(**options).fit(labs)
