"""What saved models may name: a closed table, complete for all that they hold."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import subprocess
import sys

import pytest
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils import all_estimators

import medfusion_sdk
from medfusion_sdk import estimators
from medfusion_sdk.persistence._trust import OUR_PARTS, Trust, name_of

# Held by no fitted estimator: they live while it is fitted, reads or explains.
PASSING = {
    *("CohortRows", "Numbers", "Query", "RawRows", "ReadRows", "Roles", "TableValues"),
    *("Targets", "TaskOutput", "TaskTargets", "TrainingTable", "UnlabelledTable", "VolumeRoles"),
}


def test_every_part_that_an_estimator_may_hold_is_in_the_table():
    found = set()
    for module in pkgutil.iter_modules(estimators.__path__, f"{estimators.__name__}."):
        for thing in vars(importlib.import_module(module.name)).values():
            own = getattr(thing, "__module__", None) == module.name
            if own and isinstance(thing, type) and dataclasses.is_dataclass(thing):
                found.add((module.name, thing.__name__))
    listed = {(home, name) for home, names in OUR_PARTS.items() for name in names}
    assert {part for part in found - listed if part[1] not in PASSING} == set()


def test_public_classes_go_by_their_public_names():
    for name in medfusion_sdk.__all__:
        thing = getattr(medfusion_sdk, name)
        if isinstance(thing, type):
            assert name_of(thing) == f"medfusion_sdk.{name}"
            assert Trust().find_class(f"medfusion_sdk.{name}") is thing


def test_every_estimator_of_scikit_learn_is_found():
    for _, kind in all_estimators():
        if not kind.__module__.startswith("sklearn.utils"):
            assert Trust().find_class(name_of(kind)) is kind


def test_every_scorer_of_scikit_learn_is_found():
    for name in get_scorer_names():
        assert Trust().find_value(name_of(get_scorer(name)._score_func))


@pytest.mark.parametrize(
    "name",
    [
        "sklearn.tests.test_common.all_estimators",
        "sklearn.linear_model.tests.test_base.LinearRegression",
        "sklearn.conftest.pytest",
        "sklearn.datasets._openml.fetch_openml",
        "sklearn.experimental.enable_halving_search_cv.HalvingGridSearchCV",
        "numpy.f2py.main",
        "numpy.testing.assert_equal",
        "scipy.special._add_newdocs.main",
        "medfusion_sdk.testing._runner.check_multimodal_estimator",
        "medfusion_sdk.persistence._folder.load_estimator",
    ],
)
def test_name_in_a_file_imports_no_module(name):
    code = (
        "import sys; from medfusion_sdk.persistence._trust import Trust, _home, _table\n"
        "name = sys.argv[1]; _table(_home(name)); before = set(sys.modules)\n"
        "for find in (Trust().find_class, Trust().find_value):\n"
        "    try: find(name); print('found', name)\n"
        "    except LookupError: pass\n"
        "print(sorted(set(sys.modules) - before))\n"
        "tests = [m for m in sys.modules if m.startswith('sklearn') and 'test' in m]\n"
        "print([m for m in tests if m.endswith('.tests') or '.tests.' in m])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["[]", "[]"]
