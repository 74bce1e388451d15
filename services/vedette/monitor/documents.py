"""The JSON documents that the monitor's HTTP routes take; what they give are the dataclasses of `core`.

Rule: an unknown key is an error, and numbers are numbers: nothing is guessed from text.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from vedette.chassis.control.documents import Document, Flag, Number, Positive
from vedette.entities.alerts import Webhook, WebhookFormat
from vedette.entities.monitors import AlertRule, CheckResult, CheckSettings, Execution, Monitor

MAX_LABEL_BYTES = 16 << 20
"""Ground truth taken in one request."""
Text = Annotated[str, Field(max_length=1000)]
Names = Annotated[list[Text], Field(max_length=100)]


def _one_sentence(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What is wrong with a parameter, said once instead of for every type that it is not."""
    try:
        return read(value)
    except ValidationError:
        raise PydanticCustomError(
            "parameter", "a parameter is true or false, a finite number, a text or a list of texts"
        ) from None


Parameter = Annotated[bool | Annotated[int, Field(strict=True)] | Number | Text | Names, WrapValidator(_one_sentence)]


class CheckDocument(Document):
    """One check with the parameters that differ from its defaults."""

    check: Text
    parameters: Annotated[dict[Text, Parameter], Field(max_length=100)] = {}

    def settings(self) -> CheckSettings:
        """The same as the domain has it."""
        parameters = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.parameters.items()
        }
        return CheckSettings(self.check, parameters)


class AlertRuleDocument(Document):
    """When a violated check becomes an alert, and when it ends."""

    datapoints_to_alert: Positive = 1
    evaluation_period: Positive = 1
    resolve_after: Positive = 2


class MonitorSettings(Document):
    """Everything about a monitor that a user sets."""

    endpoint: Text
    checks: Annotated[list[CheckDocument], Field(min_length=1, max_length=50)] = [
        CheckDocument(check="data_quality"),
        CheckDocument(check="drift"),
    ]
    baseline: Text = "default"
    window_s: Number = 300.0
    lateness_s: Number | None = None
    schedule: Text = "continuous"
    min_rows: Positive = 100
    segments: Names = []
    alert: AlertRuleDocument = AlertRuleDocument()
    webhooks: Names = []
    reports: Literal["violations", "on_demand"] = "violations"

    def monitor(self, name: str) -> Monitor:
        """The monitor of this name with these settings."""
        return Monitor(
            name=name,
            endpoint=self.endpoint,
            checks=tuple(check.settings() for check in self.checks),
            baseline=self.baseline,
            window_s=self.window_s,
            lateness_s=math.nan if self.lateness_s is None else self.lateness_s,
            schedule=self.schedule,
            min_rows=self.min_rows,
            segments=tuple(self.segments),
            alert=AlertRule(**self.alert.model_dump()),
            webhooks=tuple(self.webhooks),
            reports=self.reports,
        )


class MonitorCreate(MonitorSettings):
    """A monitor that does not exist yet."""

    name: Text


class MonitorChange(MonitorSettings):
    """The settings that take the place of the old ones; the name may be repeated."""

    name: Text = ""


class Acknowledgement(Document):
    """Who looks after an alert."""

    by: Annotated[str, Field(min_length=1, max_length=200)]


class SilenceCreate(Document):
    """What to keep quiet about, and for how many seconds."""

    for_s: Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]
    monitor: Text = ""
    endpoint: Text = ""
    feature: Text = ""
    everything: Flag = False
    comment: Text = ""


class WebhookCreate(Document):
    """A receiver."""

    name: Text
    url: Annotated[str, Field(max_length=2000)]
    format: WebhookFormat = "cloudevents"
    headers: Annotated[dict[Text, Text], Field(max_length=20)] = {}


class WebhookChange(Document):
    """What to replace; a key that is absent leaves the value."""

    url: Annotated[str, Field(max_length=2000)] | None = None
    enabled: Flag | None = None
    headers: Annotated[dict[Text, Text], Field(max_length=20)] | None = None


class NewSecret(BaseModel):
    """A webhook with the secret that was just made, shown this once."""

    webhook: Webhook
    secret: str


class ReportPlace(BaseModel):
    """Where a report can be read, below the service's address."""

    path: str


class Violation(BaseModel):
    """One violated check with the window it was found in."""

    execution: str
    monitor: str
    endpoint: str
    variant: str
    version: str
    segment: str
    start: float
    end: float
    check: str
    feature: str
    kind: str
    value: float | None
    threshold: float | None
    p_value: float | None
    description: str

    @staticmethod
    def of(execution: Execution, result: CheckResult) -> Violation:
        """The violation that a result of an execution is."""
        return Violation(
            execution=execution.id,
            monitor=execution.monitor,
            endpoint=execution.endpoint,
            variant=execution.variant,
            version=execution.version,
            segment=execution.segment,
            start=execution.start,
            end=execution.end,
            check=result.check,
            feature=result.feature,
            kind=result.kind,
            value=result.value,
            threshold=result.threshold,
            p_value=result.p_value,
            description=result.description,
        )
