"""The tf.data ladder on the user's own data: what `python -m pipeline ablation` measures."""
