"""The three example models: data that ships with scikit-learn, trained at first use, never stored in the project.

Rule: every model holds its own preprocessing, and what converts badly (trees behind a scaler, for one) is
refused by the converter, not hoped for. Splits and seeds are fixed, so that every machine gets the same models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vedette.sdk.convert import Conversion, from_sklearn

SEED = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on and rows held out; `names` are classes by index."""

    train: Any
    train_target: Any
    test: Any
    test_target: Any
    features: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def truth(self, row: int) -> str:
        """What the held-out row really is."""
        value = self.test_target[row]
        return self.names[int(value)] if self.names else f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Example:
    """One model: how to get its data, train it and convert it."""

    name: str
    description: str
    measure: str
    """What `metadata` calls the score on the held-out rows."""
    load: Callable[[], Split]
    train: Callable[[Split], tuple[Conversion, float]]


def _split(rows: Any, target: Any, *, features: Any = (), names: Any = ()) -> Split:
    from sklearn.model_selection import train_test_split

    classes = target if len(names) else None
    train, test, train_target, test_target = train_test_split(
        rows, target, test_size=0.25, random_state=SEED, stratify=classes
    )
    return Split(train, train_target, test, test_target, tuple(map(str, features)), tuple(map(str, names)))


def _load_breast_cancer() -> Split:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _split(data.data, data.target, features=data.feature_names, names=data.target_names)


def _load_diabetes() -> Split:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return _split(data.data, data.target, features=data.feature_names)


def _load_digits() -> Split:
    from sklearn.datasets import load_digits

    data = load_digits()
    return _split(data.images, data.target, names=data.target_names)


def _train_breast_cancer(split: Split) -> tuple[Conversion, float]:
    """Scaler and gradient boosting in one graph."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), GradientBoostingClassifier(random_state=SEED))
    model.fit(split.train, split.train_target)
    conversion = from_sklearn(
        model, split.test, feature_names=split.features, label_names=split.names, target="diagnosis"
    )
    return conversion, float(model.score(split.test, split.test_target))


def _train_diabetes(split: Split) -> tuple[Conversion, float]:
    """Scaler and ridge regression."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=(0.1, 1.0, 10.0, 100.0)))
    model.fit(split.train, split.train_target)
    conversion = from_sklearn(model, split.test, feature_names=split.features, target="disease progression")
    return conversion, float(model.score(split.test, split.test_target))


def _train_digits(split: Split) -> tuple[Conversion, float]:
    """A small network on 8x8 images: the pixels are scaled inside the graph."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    network = MLPClassifier((64,), learning_rate_init=0.005, max_iter=400, random_state=SEED)
    model = make_pipeline(MinMaxScaler(), network)
    model.fit(split.train.reshape(len(split.train), -1), split.train_target)
    conversion = from_sklearn(model, split.test, label_names=split.names, target="digit")
    return conversion, float(model.score(split.test.reshape(len(split.test), -1), split.test_target))


EXAMPLES = (
    Example(
        "breast-cancer",
        "malignant or benign from 30 measurements (scaler and gradient boosting)",
        "accuracy",
        _load_breast_cancer,
        _train_breast_cancer,
    ),
    Example(
        "diabetes",
        "disease progression after a year from 10 measurements (scaler and ridge regression)",
        "r2",
        _load_diabetes,
        _train_diabetes,
    ),
    Example("digits", "handwritten digits, 8x8 pixels (a small network)", "accuracy", _load_digits, _train_digits),
)
