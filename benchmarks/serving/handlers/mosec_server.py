"""Mosec: a Rust front and Python worker processes."""

import os

import models
from mosec import Server, Worker


class Model(Worker):
    def __init__(self):
        super().__init__()
        self.predict = models.load(os.environ["BENCH_CASE"])

    def forward(self, data):
        return {"result": self.predict(data["data"])}


if __name__ == "__main__":
    server = Server()
    server.append_worker(Model, num=int(os.environ["BENCH_WORKERS"]))
    server.run()
