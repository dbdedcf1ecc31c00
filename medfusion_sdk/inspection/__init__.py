"""Look at fitted estimators: displays after scikit-learn's convention."""

from __future__ import annotations

from medfusion_sdk.inspection.router import RouterDisplay

__all__ = ["RouterDisplay"]
