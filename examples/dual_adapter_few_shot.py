"""
Few fine labels after many coarse ones
======================================

Coarse labels are cheap, fine ones are not. The dual adapter learns whether an ECG with its report
is normal; then a linear probe on its embedding learns the five superclasses from k records of each.
"""

# %%
# Transfer is ordinary composition: ``fit`` on coarse labels, ``transform``, and any classifier.
# :func:`~medfusion_sdk.model_selection.few_shot_table` does so in each fold, for several draws of
# the k records, and compares with the frozen embeddings that the dual adapter started from.
from medfusion_sdk import (
    DualAdapterClassifier,
    SignalEncoder,
    TextEncoder,
    make_modality_transformer,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.inspection import FewShotDisplay
from medfusion_sdk.model_selection import MultilabelStratifiedGroupKFold, few_shot_table

ptbxl = load_ptbxl()
table = few_shot_table(
    {
        "frozen embeddings": make_modality_transformer(
            ecg=(SignalEncoder(view="beats"), "ecg"), report=(TextEncoder(), "report")
        ),
        "dual adapter": DualAdapterClassifier(random_state=0),
    },
    ptbxl.data[["ecg", "report"]],
    ptbxl.target,
    y_fit=ptbxl.target["NORM"],
    shots=(5, 10, 20, 50),
    n_draws=5,
    cv=MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0),
    groups=ptbxl.groups,
    reference="frozen embeddings",
    random_state=0,
)
print(table.round(3).to_string(na_rep=""))

# %%
# A class that has fewer than k training records gives all of them. Bands are 95 % bootstrap
# intervals over patients.
FewShotDisplay(table).plot()
