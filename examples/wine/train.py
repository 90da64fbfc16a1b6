"""Train a scikit-learn pipeline on a table: how good is this wine's grower, of three, from what a chemist measured.

The data (178 wines, 13 measurements) ships with scikit-learn, so this runs offline in a second:

    python examples/wine/train.py
    slipway serve wine=examples/wine/wine.joblib

The model was trained on a DataFrame, so requests may give `input` FP64 [-1, 13] by position, or one tensor for each
column by its name. It answers `label` BYTES [-1] and `probabilities` FP64 [-1, 3].
"""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(path: Path) -> None:
    wines = load_wine(as_frame=True)
    growers = np.array(["north", "hills", "river"])[wines.target]
    train_x, test_x, train_y, test_y = train_test_split(wines.data, growers, random_state=0, stratify=growers)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(50, random_state=0)).fit(train_x, train_y)
    print(f"accuracy on {len(test_y)} wines it never saw: {model.score(test_x, test_y):.3f}")
    joblib.dump(model, path, compress=3)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("wine.joblib"))
