"""BentoML."""

import os

import bentoml
import models


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]), metrics={"enabled": True}, logging={"access": {"enabled": False}}
)
class Bench:
    def __init__(self):
        self.model = models.load(os.environ["BENCH_CASE"])

    @bentoml.api
    def predict(self, data: list[list[float]]) -> dict:
        return {"result": self.model(data)}
