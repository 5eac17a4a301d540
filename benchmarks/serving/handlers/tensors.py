"""An entry script that gives a tensor back, for V2."""

import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.schema_decorators import input_schema


def init():
    pass


@input_schema("x", NumpyParameterType(np.zeros(1, "float32"), enforce_shape=False))
def run(x):
    return {"y": x}
