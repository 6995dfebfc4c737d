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

    def call(self, views: Any, training: bool = False) -> Any:
        """Return probabilities, (images, classes), averaged over views, from features (images, views, dim)."""
        probabilities = views
        for layer in self.head.layers:
            probabilities = layer(probabilities, training=training)
        return keras.ops.mean(probabilities, axis=1)

    def train_step(self, block: Any) -> Any:
        """Learn from a block and return the metrics by name."""
        features, targets, weights = block
        losses, probabilities = self._take_steps(features, targets, weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(losses, tf.fill(tf.shape(losses), tf.shape(targets)[1]))
            else:
                metric.update_state(
                    tf.reshape(targets, (-1,)), tf.reshape(probabilities, (-1, probabilities.shape[-1]))
                )
        return self.get_metrics_result()

    @tf.function
    def _take_steps(self, features: Any, targets: Any, weights: Any) -> Any:
        """Take a step for each batch; return losses (batches,) and probabilities (batches, batch, classes)."""
        batches = tf.shape(features)[0]
        losses = tf.TensorArray(tf.float32, batches)
        probabilities = tf.TensorArray(tf.float32, batches)
        for number in tf.range(batches):
            with tf.GradientTape() as tape:
                predicted = self.head(features[number], training=True)
                loss = self.compute_loss(y=targets[number], y_pred=predicted, sample_weight=weights[number])
            self.optimizer.apply(tape.gradient(loss, self.head.trainable_variables), self.head.trainable_variables)
            losses = losses.write(number, loss)
            probabilities = probabilities.write(number, predicted)
        return losses.stack(), probabilities.stack()
