"""
Diagnosis from ECG, report and demographics
===========================================

353 real PTB-XL records: a 12-lead ECG, the cardiologist's free-text report (mostly German) and four
numbers, and five diagnostic superclasses, several per record. The cohort table goes through an
ordinary ColumnTransformer into AdaCoMed, inside GridSearchCV, with folds that keep each patient's
records together.

Reports name the diagnosis, so text alone is strong; that is why each modality alone stands beside
the fusion. Run it twice: the second run encodes nothing.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medfusion_sdk import (
    AdaCoMedClassifier,
    EmbeddingCache,
    SignalEncoder,
    SkipMissing,
    SmallMultimodalClassifier,
    TextEncoder,
    load_estimator,
    make_modality_transformer,
    save_estimator,
)
from medfusion_sdk.datasets import load_ptbxl
from medfusion_sdk.inspection import RouterDisplay
from medfusion_sdk.metrics import macro_auroc_scorer
from medfusion_sdk.model_selection import (
    MultilabelStratifiedGroupKFold,
    compare,
    modality_baselines,
)

OUTPUT = Path("outputs") / "quickstart"
STRATEGIES = [
    "inverse", "inverse_paper", "gaussian", "threshold",
    "learnable", "ensemble", "large_only", "small_only",
]  # fmt: skip

# %%
# The cohort table: one row per record, one column per raw modality.

ptbxl = load_ptbxl()
X, y, patients = ptbxl.data, ptbxl.target, ptbxl.groups
print(X.drop(columns="ecg").head(3).to_string(), "\n")

# %%
# Four modalities from three sources. The English language model reads German badly; character
# n-grams are a second expert on the same report.

OUTPUT.mkdir(parents=True, exist_ok=True)
cache = EmbeddingCache(OUTPUT / "embeddings")
characters = make_pipeline(
    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True),
    TruncatedSVD(100, random_state=0),
)
person = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
encode = make_modality_transformer(
    ecg=(SignalEncoder(view="beats", fs=ptbxl.fs), "ecg"),
    report=(TextEncoder(), "report"),
    ngrams=(SkipMissing(characters), "report"),
    person=(person, ["age", "sex", "height", "weight"]),
    cache=cache,
)

# %%
# The search: all strategies of weighing the large against the small path, five patient-grouped
# stratified folds.

folds = MultilabelStratifiedGroupKFold(n_splits=5, shuffle=True, random_state=0)
model = Pipeline([("encode", encode), ("fuse", AdaCoMedClassifier(random_state=0))])
before = cache.stats()
started = time.perf_counter()
search = GridSearchCV(
    model,
    {"fuse__strategy": STRATEGIES},
    scoring=macro_auroc_scorer,
    cv=folds,
    n_jobs=2,
)
search.fit(X, y, groups=patients, fuse__groups=patients)
after = cache.stats()
encoded = after.misses - before.misses
print(f"grid search: {len(STRATEGIES)} strategies x 5 folds, {time.perf_counter() - started:.0f} s")
print(
    f"encoder calls: {encoded} items encoded, {after.hits - before.hits} found in the cache"
    + (": zero encoder calls, everything was there" if encoded == 0 else "")
)
ranking = sorted(zip(search.cv_results_["mean_test_score"], STRATEGIES, strict=True), reverse=True)
for score, strategy in ranking:
    print(f"  {strategy:14s} {score:.3f}")
print("(the best of eight on the same folds is optimistic; the table below uses the default)\n")

# %%
# The table: the default AdaCoMed, fixed beforehand, and simple models on the same folds, each
# modality alone among them. Differences are to concatenation, on the same resampled patients.

logistic = make_pipeline(
    SimpleImputer(),  # logistic regression can't do without a missing report; AdaCoMed can
    StandardScaler(),
    OneVsRestClassifier(LogisticRegression(C=0.003, max_iter=2000)),
)
models = modality_baselines(encode, linear=logistic)
del models["gradient boosting"]  # minutes, on 2,500 columns
models["small model"] = make_pipeline(encode, SmallMultimodalClassifier(random_state=0))
models["AdaCoMed"] = make_pipeline(encode, AdaCoMedClassifier(random_state=0))
table, scores = compare(
    models,
    X,
    y,
    cv=folds,
    groups=patients,
    reference="concatenation",
    n_jobs=2,
    return_predictions=True,
    random_state=0,
)
print("macro AUROC out of fold, 95 % bootstrap intervals over patients")
print(table.round(3).fillna("").to_string(), "\n")
table.to_csv(OUTPUT / "scores.csv")

# %%
# Which experts are asked, and how well each superclass is told apart.

best = search.best_estimator_
blocks = best[:-1].transform(X)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
for k, label in enumerate(y.columns):
    RocCurveDisplay.from_predictions(y[label], scores["AdaCoMed"][:, k], ax=left, name=label)
left.set_title("AdaCoMed, out of fold")
RouterDisplay.from_estimator(best[-1], blocks, ax=right)
figure.savefig(OUTPUT / "quickstart.png", dpi=150)

# %%
# Saved, loaded, and asked about one patient.

save_estimator(best, OUTPUT / "model", overwrite=True)
loaded = load_estimator(OUTPUT / "model")
one = X.iloc[[0]]
probability = pd.Series(loaded.predict_proba(one)[0], index=y.columns).round(3)
assert np.allclose(probability, best.predict_proba(one)[0], atol=1e-3)
print(f"record {one.index[0]}: {one['report'].iloc[0]!r}")
print(f"  probabilities {probability.to_dict()}, recorded {y.iloc[0].to_dict()}")
why = loaded[-1].explain(loaded[:-1].transform(one))
print(why[why["quantity"].isin(["responsibility", "w_large", "similarity"])].to_string(index=False))
print(f"\nfigure, scores and model are in {OUTPUT}")
