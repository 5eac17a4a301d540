"""The entry script of Slipway's server and of Azure's: the same file for both."""

import json
import os

import models


def init():
    global predict
    predict = models.load(os.environ["BENCH_CASE"])


def run(data):
    return {"result": predict(json.loads(data)["data"])}
