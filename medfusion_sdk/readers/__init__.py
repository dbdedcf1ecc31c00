"""One cell of the cohort table -> one validated array."""
