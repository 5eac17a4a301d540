"""MLServer: a custom runtime behind V2."""

import os

import models
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Model(MLModel):
    async def load(self):
        self.predict_rows = models.load(os.environ["BENCH_CASE"])
        return True

    async def predict(self, payload):
        tensor = payload.inputs[0]
        if os.environ["BENCH_CASE"] == "noop":
            outputs = [NumpyCodec.encode_output("y", NumpyCodec.decode_input(tensor)[:1, :1])]
        elif os.environ["BENCH_CASE"] == "identity":
            outputs = [NumpyCodec.encode_output("y", NumpyCodec.decode_input(tensor))]
        else:
            import numpy as np

            outputs = [NumpyCodec.encode_output("y", np.asarray(self.predict_rows(NumpyCodec.decode_input(tensor))))]
        return InferenceResponse(model_name=self.name, outputs=outputs)
