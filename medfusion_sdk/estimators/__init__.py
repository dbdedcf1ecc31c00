"""Published methods as scikit-learn estimators, one public class per file."""
