"""Trains a classifier of handwritten digits on the data that scikit-learn ships, and writes the model.

Reproducible: the same packages give the same bytes. Usage: train.py FOLDER
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(folder: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=0))
    model.fit(train_x, train_y)
    print(f"trained on {len(train_x)} digits; {model.score(test_x, test_y):.1%} of {len(test_x)} others are recognised")

    folder.mkdir(parents=True, exist_ok=True)
    # The file's name is the one in Azure's documentation; a killed run must not leave half a model under it.
    partial = folder / ".sklearn_mnist_model.pkl.partial"
    joblib.dump(model, partial)
    partial.rename(folder / "sklearn_mnist_model.pkl")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("model"))
