"""Write the reference rows of an example model as CSV: what `vedette baseline create` reads.

    python examples/reference_data.py diabetes > diabetes.csv

The rows are those that the model was trained on, as they ship with scikit-learn.
"""

from __future__ import annotations

import csv
import sys

from sklearn.datasets import load_breast_cancer, load_diabetes

LOADERS = {"diabetes": load_diabetes, "breast-cancer": load_breast_cancer}


def main(arguments: list[str]) -> int:
    """Write one data set to standard output."""
    if len(arguments) != 1 or arguments[0] not in LOADERS:
        print(f"one of {', '.join(LOADERS)}", file=sys.stderr)
        return 2
    data = LOADERS[arguments[0]]()
    writer = csv.writer(sys.stdout)
    writer.writerow(data.feature_names)
    writer.writerows(data.data.tolist())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
