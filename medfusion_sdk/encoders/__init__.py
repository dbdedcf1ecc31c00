"""Raw column -> embedding block, as scikit-learn transformers."""
