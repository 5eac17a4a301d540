"""KServe's Python server: a custom model, V1 for rows and V2 for tensors."""

import os

import models
from kserve import InferOutput, InferResponse, Model, ModelServer


class Bench(Model):
    def __init__(self):
        super().__init__("bench")
        self.predict_rows = models.load(os.environ["BENCH_CASE"])
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, dict):
            return {"predictions": self.predict_rows(payload["instances"])}
        array = payload.inputs[0].as_numpy()
        output = InferOutput("y", list(array.shape), "FP32")
        output.set_data_from_numpy(array, binary_data=payload.inputs[0].parameters is not None)
        return InferResponse(payload.id or "1", "bench", [output])


if __name__ == "__main__":
    port, workers = int(os.environ["BENCH_PORT"]), int(os.environ["BENCH_WORKERS"])
    ModelServer(http_port=port, workers=workers, enable_grpc=False, access_log_format=None).start([Bench()])
