"""Load tests: what vedette is measured against, side by side on one machine."""

import os

# ONNX Runtime 1.29 and later send usage data unless told not to; vedette tells its own processes so, and the
# servers it is compared with must not pay for what it does not.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
