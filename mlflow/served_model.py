"""The served model as code: raw audio bytes in, label and class probabilities out.

MLflow runs this file to load a registered version (models from code: nothing is unpickled). Its artifacts are
``weights`` (safetensors) and ``config`` (JSON); the package `heartdata` is logged with it.
"""

import mlflow.pyfunc
import pandas as pd
from mlflow.models import set_model


class HeartSoundModel(mlflow.pyfunc.PythonModel):
    """Predictions for audio files as bytes in the column ``audio``."""

    def load_context(self, context):
        import numpy as np

        from heartdata.audio.spectrograms import log_mel
        from heartdata.serving.predictor import Predictor

        self.predictor = Predictor.load(context.artifacts["weights"], context.artifacts["config"])
        log_mel(np.zeros(4000, np.float32), 4000, self.predictor.config.spectrogram)  # the first call is slow

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """One row per file, see `heartdata.serving.predictor.prediction_frame`."""
        from heartdata.serving.predictor import prediction_frame

        results = self.predictor.predict(bytes(content) for content in model_input["audio"])
        frame = prediction_frame(results, self.predictor)
        return frame.astype(dict.fromkeys(frame.columns[frame.isna().any()], object)).where(
            frame.notna(), None
        )  # no NaN in JSON


set_model(HeartSoundModel())
