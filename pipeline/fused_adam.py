"""AdamW whose step on a large embedding is a few passes over memory instead of twenty.

Keras writes AdamW as a chain of elementwise ops, each of which makes an array of the size of the
variable: on an embedding of 15,000 x 128 that is a sixth of a training step. Here TensorFlow's
fused op updates both moments and the variable in place, in one pass.

The mathematics are those of `keras.optimizers.AdamW` on TensorFlow, one peculiarity included: of a
row that a batch looks up several times, Keras adds the *squares* of the single gradients to the
second moment, and not the square of their sum (it squares the values of `tf.IndexedSlices` before
it sums those of equal indices). Textbook Adam would train another model.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

TINY = 1e-20
"""Learning rate at which a gradient step is lost to rounding and the shrinkage alone is left."""


@keras.saving.register_keras_serializable(package="gatetable")
class FusedAdamW(keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, with its variables and its results, in fewer passes.

    Under a `tf.distribute` strategy, with `amsgrad`, or on variables that are not float32 it is
    the stock optimizer.
    """

    def _is_fusible(self, variable: Any) -> bool:
        return (
            not tf.distribute.has_strategy()
            and not self.amsgrad
            and self.weight_decay is not None
            and variable.dtype == "float32"
        )

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        super()._apply_weight_decay([each for each in variables if not self._is_fusible(each)])

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its moments.

        Args:
            gradient: Dense, or `tf.IndexedSlices` of an embedding.
            variable: A trainable variable of the model.
            learning_rate: Scalar.
        """
        if not self._is_fusible(variable):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        rate = tf.cast(learning_rate, tf.float32)
        steps = tf.cast(self.iterations + 1, tf.float32)
        dense = tf.convert_to_tensor(gradient)
        if isinstance(gradient, tf.IndexedSlices):
            # The op will add the square of each row's sum: take it off, and add the squares. The
            # rows' sums of g * (g - sum) are just that, and 0 where a row was looked up once.
            share = 1.0 - self.beta_2
            excess = gradient.values * (gradient.values - tf.gather(dense, gradient.indices))
            velocity.scatter_add(tf.IndexedSlices(excess * (share / self.beta_2), gradient.indices))
        if self._use_weight_decay(variable):
            # The only op of TensorFlow that scales in place: (x - rate * g) / (1 + rate * l2).
            kept = 1.0 - rate * self.weight_decay
            tf.raw_ops.ResourceApplyProximalGradientDescent(
                var=variable.handle,
                alpha=TINY,
                l1=0.0,
                l2=(1.0 / kept - 1.0) / TINY,
                delta=dense,
            )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=tf.pow(self.beta_1, steps),
            beta2_power=tf.pow(self.beta_2, steps),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=dense,
        )
