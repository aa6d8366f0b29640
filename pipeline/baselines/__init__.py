"""The figures to beat: classic text classifiers, trained and measured on the same split."""
