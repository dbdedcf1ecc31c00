"""The front door: lazy names, a light import, documented public names, a complete wheel."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import medfusion_sdk

HEAVY = {"torch", "transformers", "skorch", "wfdb", "nibabel", "lifelines", "matplotlib"}


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    program = (
        f"import json, sys\n{statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def public_objects():
    names = [name for name in medfusion_sdk.__all__ if name != "__version__"]
    return [(name, getattr(medfusion_sdk, name)) for name in names]


def test_import_of_package_loads_no_heavy_library():
    assert not loaded_after("import medfusion_sdk") & (HEAVY | {"sklearn", "pandas", "numpy"})


def test_import_of_exceptions_loads_no_heavy_library():
    assert not loaded_after("from medfusion_sdk import exceptions") & HEAVY


def constructor_call(name, estimator):
    parameters = inspect.signature(estimator).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return f"medfusion_sdk.{name}({', '.join(f'{parameter}=None' for parameter in required)})"


def test_constructing_every_public_estimator_loads_no_backbone_library():
    # Constructors store parameters; a worker that only clones must not pay for transformers.
    calls = [constructor_call(*item) for item in public_objects() if hasattr(item[1], "get_params")]
    assert calls
    loaded = loaded_after(f"import medfusion_sdk; {'; '.join(calls)}")
    assert not loaded & {"transformers", "wfdb", "nibabel", "lifelines", "matplotlib"}


def test_every_public_name_resolves_to_its_own_object():
    for name, value in public_objects():
        assert inspect.ismodule(value) or value.__name__ == name


def test_public_name_is_cached_after_first_use():
    value = medfusion_sdk.exceptions
    assert vars(medfusion_sdk)["exceptions"] is value


def test_unknown_name_raises_attribute_error_naming_it():
    with pytest.raises(AttributeError, match="'no_such_thing'"):
        _ = medfusion_sdk.no_such_thing


def test_dir_lists_every_public_name():
    assert set(medfusion_sdk.__all__) <= set(dir(medfusion_sdk))


def test_names_for_type_checkers_equal_the_lazy_ones():
    # Three lists of the same names: __all__, the lazy table, and what mypy and editors read.
    tree = ast.parse(Path(medfusion_sdk.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname or alias.name for node in guarded.body for alias in node.names}
    assert typed == set(medfusion_sdk._HOME) == set(medfusion_sdk.__all__)


def test_names_for_type_checkers_come_from_the_same_modules():
    tree = ast.parse(Path(medfusion_sdk.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    for node in guarded.body:
        for alias in node.names:
            home = f"medfusion_sdk.{medfusion_sdk._HOME[alias.name]}"
            assert home in {node.module, f"{node.module}.{alias.name}"}


def test_public_functions_and_classes_carry_an_example():
    bare = [
        name
        for name, value in public_objects()
        if not inspect.ismodule(value) and ">>>" not in (inspect.getdoc(value) or "")
    ]
    assert bare == []


def test_version_is_the_installed_one():
    metadata = importlib.import_module("importlib.metadata")
    assert medfusion_sdk.__version__ == metadata.version("medfusion-sdk")
