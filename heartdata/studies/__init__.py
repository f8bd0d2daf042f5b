"""Studies of published protocols: configuration, folds, scores and the results page."""
