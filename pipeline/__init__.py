"""Text table -> run: prepare, feed, train and search small GRU text classifiers."""
