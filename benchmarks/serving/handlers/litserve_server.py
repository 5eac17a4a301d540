"""LitServe."""

import os

import litserve
import models


class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = models.load(os.environ["BENCH_CASE"])

    def decode_request(self, request):
        return request["data"]

    def predict(self, x):
        return self.model(x)

    def encode_response(self, output):
        return {"result": output}


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=workers)
    server.run(
        port=int(os.environ["BENCH_PORT"]), generate_client_file=False, num_api_servers=workers, log_level="error"
    )
