"""The fit of a head, with many steps in one call: a step is so small that calling it costs more than the step.

Import it after `start_keras`.
"""

from typing import Any

import keras
import tensorflow as tf


class HeadTrainer(keras.Model):
    """A head, shared, in training: it learns from blocks of batches and is judged by probabilities averaged over views.

    `fit` takes blocks of features (batches, batch, dim), targets (batches, batch) and weights (batches, batch), and
    moves the optimizer once for each batch; its validation data, as `evaluate` and a call, take (images, views, dim)
    and targets (images,).
    """

    def __init__(self, head: Any) -> None:
        super().__init__(name="head_trainer")
        self.head = head
        self._normalize, self._drop_out, self._classify = head.layers

    def call(self, views: Any, training: bool = False) -> Any:
        """Return probabilities, (images, classes), averaged over views, from features (images, views, dim)."""
        # normalization is linear, so it can be a part of the weights, which are few, and not of the features
        deviation = keras.ops.maximum(keras.ops.sqrt(self._normalize.variance[0]), keras.config.epsilon())
        kernel = self._classify.kernel / deviation[:, None]
        bias = self._classify.bias - keras.ops.matmul(self._normalize.mean[0], kernel)
        probabilities = self._classify.activation(keras.ops.matmul(views, kernel) + bias)
        return keras.ops.mean(probabilities, axis=1)

    def train_step(self, block: Any) -> Any:
        """Learn from a block and return the metrics by name."""
        features, targets, weights = block
        # what is not learnt is done for all batches at once
        features = self._drop_out(self._normalize(features), training=True)
        losses, probabilities = self._take_steps(features, targets, weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(losses, tf.fill(tf.shape(losses), tf.shape(targets)[1]))
            else:
                metric.update_state(targets, probabilities)
        return self.get_metrics_result()

    @tf.function
    def _take_steps(self, features: Any, targets: Any, weights: Any) -> Any:
        """Take a step for each batch; return losses (batches,) and probabilities (batches, batch, classes)."""
        batches = tf.shape(features)[0]
        losses = tf.TensorArray(tf.float32, batches)
        probabilities = tf.TensorArray(tf.float32, batches)
        learnt = self._classify.trainable_variables
        for number in tf.range(batches):
            with tf.GradientTape() as tape:
                predicted = self._classify(features[number])
                loss = self.compute_loss(y=targets[number], y_pred=predicted, sample_weight=weights[number])
            self.optimizer.apply(tape.gradient(loss, learnt), learnt)
            losses = losses.write(number, loss)
            probabilities = probabilities.write(number, predicted)
        return losses.stack(), probabilities.stack()
