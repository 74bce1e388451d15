"""Trained models of scikit-learn, LightGBM and XGBoost as ONNX graphs that do the same (extra `convert`).

Rule: nothing is returned that has not been compared with the original on real rows; the frameworks are
passed in and the converters imported in the call, so that this module loads without any of them.
"""

import os

from vedette.sdk.convert.boosting import from_lightgbm, from_xgboost
from vedette.sdk.convert.comparison import TOLERANCE
from vedette.sdk.convert.conversion import Conversion
from vedette.sdk.convert.pipelines import from_sklearn

__all__ = ["TOLERANCE", "Conversion", "from_lightgbm", "from_sklearn", "from_xgboost"]

# The comparison runs ONNX Runtime in the user's own process, and its builds report models to Microsoft unless
# told not to before they are imported (as in vedette.engine).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
