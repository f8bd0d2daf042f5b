"""Three versions of a model ``small``, as heartbeat tags its own, without training; in the registry of the environment."""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow

from heartdata.config import RunConfig
from heartdata.storage.store import Store
from tasks.registry.client import KEY_TAG, connect, experiment_of
from tasks.registry.pruning import WEIGHTS


def main() -> None:
    config = RunConfig()
    store = Store(config.store).open()
    client = connect(config.registry, store)
    client.create_registered_model("small")
    for number in map(str, range(1, 4)):
        tags = {KEY_TAG: number, WEIGHTS: number}
        with (
            TemporaryDirectory() as folder,
            mlflow.start_run(experiment_id=experiment_of(client, config.registry, store), tags=tags) as run,
        ):
            code = Path(folder, "model.py")
            code.write_text("import mlflow\nmlflow.models.set_model(mlflow.pyfunc.PythonModel())")
            model = mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])
        client.create_model_version("small", model.model_uri, run.info.run_id, model_id=model.model_id, tags=tags)


if __name__ == "__main__":
    main()
