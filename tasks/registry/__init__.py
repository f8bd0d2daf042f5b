"""MLflow: the tracking client, registered model versions, their names, runs that were killed."""
