"""scikit-learn's common checks and our own, on each classifier with its default parameters."""

from __future__ import annotations

import os
import sys
import warnings

# SciPy reads the switch at import; without it scikit-learn skips its array-API check.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import sklearn
from sklearn.utils.estimator_checks import check_estimator

from benchmarks.common import report
from medfusion_sdk import AdaCoMedClassifier, SmallMultimodalClassifier
from medfusion_sdk.testing import check_multimodal_estimator


def main() -> int:
    """Print for each class how many checks passed, as a share of those that exist."""
    suites = {
        f"scikit-learn {sklearn.__version__}": check_estimator,
        "medfusion_sdk.testing": check_multimodal_estimator,
    }
    for kind in (SmallMultimodalClassifier, AdaCoMedClassifier):
        for name, check in suites.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                records = check(kind(), on_fail=None)
            asked = [record for record in records if record["status"] != "skipped"]
            passed = [record for record in asked if record["status"] == "passed"]
            left = len(records) - len(asked)
            report(
                f"{kind.__name__}, checks passed",
                len(passed) / len(asked),
                f"the checks of {name}",
                at_least=1,
                detail=f"{len(passed)} of {len(asked)}, {left} without what they check",
            )
            for record in asked:
                if record["status"] != "passed":
                    print(f"   {record['check_name']}: {record['exception']!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
