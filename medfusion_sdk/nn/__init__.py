"""Networks and losses in plain torch; nothing of the rest of the package is imported here."""
