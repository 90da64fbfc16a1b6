"""Train the example model: which iris is it, from four measurements in centimetres.

Fisher's iris data (150 flowers, three species) ships with scikit-learn, so this runs offline in a
second:  python examples/iris/train.py
It writes iris.onnx beside itself: `input` FP32 [-1, 4] -> `label` INT64 [-1], `probabilities` FP32 [-1, 3].
"""

from pathlib import Path

import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent


def main() -> None:
    flowers, species = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        flowers, species, test_size=0.2, random_state=0, stratify=species
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(train_x, train_y)
    print(f"accuracy on {len(test_y)} flowers it never saw: {model.score(test_x, test_y):.3f}")
    exported = to_onnx(
        model,
        initial_types=[("input", FloatTensorType([None, 4]))],
        final_types=None,
        options={"zipmap": False},
        target_opset=17,
    )
    onnx.checker.check_model(exported)
    (HERE / "iris.onnx").write_bytes(exported.SerializeToString())
    print(f"wrote {HERE / 'iris.onnx'}")


if __name__ == "__main__":
    main()
