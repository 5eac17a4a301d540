"""Entry script: classifies handwritten digits of 8 x 8 pixels, each pixel from 0 to 16."""

import json
import os

import joblib
import numpy as np

model = None


def init():
    global model
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model", "sklearn_mnist_model.pkl")
    model = joblib.load(path)


def run(raw_data):
    data = np.array(json.loads(raw_data)["data"], dtype=float)
    return model.predict(data).tolist()
