"""Models of Keras 2 and of cuDNN, taken over as runs."""
