"""Train with scikit-learn on a table with text, convert, register, deploy and predict from a DataFrame."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import vedette
from vedette.sdk.convert import from_sklearn
from vedette.sdk.documents import Details


def customers(rows: int = 500) -> tuple[pd.DataFrame, np.ndarray]:
    """Invented customers, and whether they came back."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 80, rows),
            "city": random.choice(["Berlin", "Graz", "Zürich"], rows),
            "spent": random.gamma(2.0, 50.0, rows).round(2),
        }
    )
    chance = 0.01 * table["spent"] + (table["city"] == "Graz") - 0.02 * table["age"]
    return table, (chance + random.normal(0, 0.3, rows) > 0).to_numpy().astype(int)


def train(table: pd.DataFrame, came_back: np.ndarray) -> Pipeline:
    """One pipeline that holds its preprocessing."""
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["age", "spent"]), ("text", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    )
    return make_pipeline(columns, LogisticRegression()).fit(table, came_back)


def main() -> None:
    """Everything from the table to a prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inference", default="http://127.0.0.1:8080")
    parser.add_argument("--registry", default="http://127.0.0.1:8090")
    arguments = parser.parse_args()

    table, came_back = customers()
    model = train(table[:400], came_back[:400])
    conversion = from_sklearn(model, table[400:], label_names=["gone", "came back"], target="customer")
    print(f"converted: within {conversion.largest_difference:.1e} of the original on {conversion.rows_compared} rows")

    with vedette.Client(arguments.inference, arguments.registry) as client:
        version = client.models.register("customers", conversion, details=Details(description="who comes back"))
        print(f"registered: {version.model}:{version.version}")
        try:
            client.endpoints.deploy("customers")
        except vedette.AlreadyExists:
            print("deployed before: used as it is")
        client.endpoints.wait_in_service("customers")

        unseen = table[400:405][["city", "spent", "age"]]  # columns in any order: names decide
        prediction = client.predict("customers", unseen)
        for (_, row), label, truth in zip(unseen.iterrows(), prediction.labels, came_back[400:405], strict=True):
            print(f"{row['city']:<8} {row['age']:>3} years  {row['spent']:>7.2f}  ->  {label:<10} (truth: {truth})")


if __name__ == "__main__":
    main()
