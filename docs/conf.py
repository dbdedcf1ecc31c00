"""How the pages are built."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import medfusion_sdk

if TYPE_CHECKING:
    from types import ModuleType

    from sphinx.application import Sphinx
    from sphinx.config import Config

os.environ.setdefault("MPLBACKEND", "agg")

project = "medfusion-sdk"
author = "the medfusion-sdk authors"
copyright = f"2026, {author}"
release = version = medfusion_sdk.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/**.ipynb", "auto_examples/**.py"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"medfusion-sdk {version}"
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says the types, with shapes and units
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # The quickstart is a program of minutes: shown, not run. Every other example is run.
    "filename_pattern": r"/(?!quickstart)[^/]+\.py$",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
}

_API_PAGE = Path(__file__).parent / "api" / "generated" / "index.rst"


def _summary(title: str, module: str, names: list[str], intro: str = "") -> str:
    rows = "".join(f"   {name}\n" for name in names)
    return (
        f"{title}\n{'-' * len(title)}\n\n{intro}\n\n.. currentmodule:: {module}\n\n"
        f".. autosummary::\n   :toctree: .\n   :nosignatures:\n\n{rows}\n"
    )


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n\n")[0]


def write_api_page(_app: Sphinx, _config: Config) -> None:
    """List what the package declares public, so that the page grows with the package."""
    public = {name: getattr(medfusion_sdk, name) for name in medfusion_sdk.__all__}
    modules = {name: value for name, value in public.items() if inspect.ismodule(value)}
    parts = ["API reference\n=============\n"]
    if own := [name for name in public if name not in modules]:
        parts.append(_summary("medfusion_sdk", "medfusion_sdk", own))
    for name, module in modules.items():
        full = f"medfusion_sdk.{name}"
        if getattr(module, "__all__", ()):
            parts.append(_summary(full, full, sorted(module.__all__), _first_line(module)))
    text = "\n".join(parts)
    _API_PAGE.parent.mkdir(parents=True, exist_ok=True)
    for page in _API_PAGE.parent.glob("medfusion_sdk.*.rst"):
        if f"   {page.stem.rpartition('.')[2]}\n" not in text:
            page.unlink()  # of a name that is no longer public
    if not _API_PAGE.exists() or _API_PAGE.read_text(encoding="utf-8") != text:
        _API_PAGE.write_text(text, encoding="utf-8")


# What every estimator has from scikit-learn is documented there, with links that end there.
_FROM_SKLEARN = re.compile(r"set_\w+_request|get_metadata_routing|[gs]et_params|set_output")


def skip_inherited_boilerplate(
    _app: Sphinx, _what: str, name: str, _value: object, _skip: bool, _options: object
) -> bool | None:
    """Leave scikit-learn's own methods out of our classes' pages."""
    return True if _FROM_SKLEARN.fullmatch(name) else None


def setup(app: Sphinx) -> None:
    """Write the API page before Sphinx lists its sources and autosummary reads them."""
    app.connect("config-inited", write_api_page)
    app.connect("autodoc-skip-member", skip_inherited_boilerplate)
