"""`azureml.monitoring`: `ModelDataCollector`, with which a script collects inputs and predictions by itself.

The data goes where the server's own collection goes (`collection`); where that is off, collecting does nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from slipway_serving import collection, logs
from slipway_serving.messages import name
from slipway_serving.model import name_and_version

__all__ = ["ModelDataCollector"]


class ModelDataCollector:
    """Collects the data of one model under a designation, such as "inputs" or "predictions"."""

    def __init__(
        self,
        model_name: str,
        designation: str = "default",
        feature_names: list[str] | None = None,
        model_version: str | None = None,
        **_: Any,
    ) -> None:
        self.model_name = model_name
        self.designation = designation
        self.feature_names = feature_names
        self.model_version = str(model_version or name_and_version(None)[1])
        if collection.active is None:
            logs.info(f"data collection is off: {model_name}/{designation} is not collected")

    def collect(self, input_data: Any, user_correlation_id: str = "") -> None:
        """Keep rows: a list, an array or a data frame. Never waits and never raises."""
        collector = collection.active
        if collector is None:
            return
        request = logs.current.get()
        fields: dict[str, Any] = {}
        if self.feature_names is not None:
            fields["features"] = list(self.feature_names)
        if user_correlation_id:
            fields["correlationId"] = str(user_correlation_id)
        size = int(getattr(input_data, "nbytes", 1000)) if hasattr(input_data, "dtype") else 1000
        # A copy, since the script goes on working with what it gave.
        data = input_data.copy() if hasattr(input_data, "copy") else input_data
        number = "" if request is None else name(request)
        record = collection.Record(
            datetime.now(UTC), self.model_name, self.model_version, self.designation, number, fields, data
        )
        collector.offer(record, size)
