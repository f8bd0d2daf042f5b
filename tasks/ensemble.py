"""One model of several networks."""

from heartdata.serving.model_config import ModelConfig
from heartdata.storage.store import Store
from tasks.engine.progress import track
from tasks.engine.stage import stage
from tasks.results import TrainedModel
from tasks.train import write_model_config


@stage("ensemble")
def ensemble(members: list[TrainedModel], store: Store) -> TrainedModel:
    """One model that predicts the mean of the members' probabilities."""
    from safetensors.torch import save

    from heartdata.training.network import ensemble_weights, read_weights

    with track("ensemble") as advance:
        weights = save(ensemble_weights([read_weights(store.verified(member.weights)) for member in members]))
        config = ModelConfig.model_validate_json(store.verified(members[0].config).read_text())
        advance(1, 1, f"ensemble of {len(members)} networks")
        combined = {
            "weights": store.write_bytes("models", ".safetensors", weights),
            "config": write_model_config(config.model_copy(update={"members": len(members)}), store),
            "members": tuple(members),
        }
        return members[0].model_copy(update=combined)
