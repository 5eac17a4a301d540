"""`inference_schema.parameter_types.pandas_parameter_type`: data frames as parameters and results."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from slipway_serving.compat.schema import AbstractParameterType, describe

__all__ = ["PandasParameterType"]
ORIENTS = ("split", "records", "index", "columns", "values", "table")


class PandasParameterType(AbstractParameterType):
    """A data frame whose columns, and their types, are those of the sample; `orient` as in `DataFrame.to_json`."""

    def __init__(
        self,
        sample_input: Any,
        enforce_column_type: bool = True,
        enforce_shape: bool = True,
        apply_column_names: bool = False,
        orient: str = "records",
    ) -> None:
        if not isinstance(sample_input, pd.DataFrame):
            raise TypeError("the sample of a PandasParameterType must be a data frame")
        if orient not in ORIENTS:
            raise ValueError(f"the orient of a PandasParameterType must be one of {', '.join(ORIENTS)}")
        super().__init__(sample_input)
        self.enforce_column_type = enforce_column_type
        self.enforce_shape = enforce_shape
        self.apply_column_names = apply_column_names
        self.orient = orient

    def deserialize_input(self, input_data: Any) -> Any:
        """The data frame. Raises ValueError where it does not fit the sample."""
        if isinstance(input_data, pd.DataFrame):
            return input_data
        if not isinstance(input_data, list | dict):
            raise ValueError(f"a data frame cannot be made from a value of type {type(input_data).__name__}")
        sample = self.sample_input
        try:
            frame = pd.read_json(StringIO(json.dumps(input_data)), orient=self.orient, dtype=False)
            if self.apply_column_names:
                frame.columns = sample.columns.copy()
            if self.enforce_column_type:
                types = sample.dtypes.to_dict()
                wanted = {name: types.get(name, object) for name in frame.columns}
                for name, dtype in wanted.items():
                    if str(dtype).startswith("timedelta"):
                        frame[name] = pd.to_timedelta(frame[name])
                frame = frame.astype(wanted)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise ValueError(f"Invalid input data frame: {error}") from None
        if self.enforce_shape and frame.shape[1:] != sample.shape[1:]:
            raise ValueError(
                f"Invalid input data frame: data frame has size {frame.shape[1]} on dimension #1, "
                f"while expected value is {sample.shape[1]}"
            )
        return frame

    def input_to_swagger(self) -> dict[str, Any]:
        """The schema of the sample written with its orient."""
        sample = self.sample_input
        schema = describe(json.loads(sample.to_json(orient=self.orient, date_format="iso")))
        for column in sample.columns:
            kind = str(sample.dtypes[column])
            form = "date-time" if kind.startswith("datetime") else "timedelta" if kind.startswith("timedelta") else ""
            if form:
                for cell in self._cells(schema, str(column)):
                    cell["format"] = form
        return {**schema, "format": f"pandas.DataFrame:{self.orient}"}

    def _cells(self, schema: dict[str, Any], column: str) -> list[dict[str, Any]]:
        """The schemas of a column's cells; none where the orient does not name columns."""
        if self.orient == "records":
            return [schema["items"]["properties"][column]]
        if self.orient == "table":
            return [schema["properties"]["data"]["items"]["properties"][column]]
        if self.orient == "index":
            return [row["properties"][column] for row in schema["properties"].values()]
        if self.orient == "columns":
            return list(schema["properties"][column]["properties"].values())
        return []
