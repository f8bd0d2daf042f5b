"""The network and its training: recipe, callbacks, checkpoints, pretraining."""
