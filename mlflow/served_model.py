"""The served model as code: raw audio bytes in, label and class probabilities out.

MLflow runs this file to load a registered version (models from code: nothing is unpickled). Its artifacts are
``weights`` (safetensors) and ``config`` (JSON); `heartdata` comes with it.
"""

import mlflow.pyfunc
import pandas as pd
from mlflow.models import set_model


class HeartSoundModel(mlflow.pyfunc.PythonModel):
    """Answers for audio files given as bytes in the column ``audio``."""

    def load_context(self, context):
        import numpy as np

        from heartdata.predictor import Predictor
        from heartdata.spectrograms import log_mel

        self.predictor = Predictor.load(context.artifacts["weights"], context.artifacts["config"])
        log_mel(np.zeros(4000, np.float32), 4000, self.predictor.config.spectrogram)  # the first call is slow

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """One row an input: ``label``, ``unsure``, ``error`` (why there is no label, or None) and ``p_<class>``."""
        from heartdata.errors import BadAudio

        classes = self.predictor.config.classes
        rows = []
        for content in model_input["audio"]:
            try:
                answer = self.predictor.answer_bytes(bytes(content))
                probabilities = dict(zip((f"p_{c}" for c in classes), answer.probabilities, strict=True))
                rows.append({"label": answer.label, "unsure": answer.unsure, "error": None, **probabilities})
            except BadAudio as error:
                nothing = {"label": None, "unsure": True, "error": str(error)}
                rows.append({**nothing, **{f"p_{c}": float("nan") for c in classes}})
        return pd.DataFrame(rows)


set_model(HeartSoundModel())
