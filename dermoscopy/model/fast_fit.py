"""The fit of a head, with many steps in one call: a step is so small that calling it costs more than the step.

Import it after `start_keras`.
"""

from typing import Any

import keras
import tensorflow as tf


class HeadTrainer(keras.Model):
    """A head, shared, in training: it learns from blocks of batches and is judged by probabilities averaged over views.

    `fit` takes blocks of features (batches, batch, dim), of which numbers are kept, bool and of the same shape, of
    targets and of weights (batches, batch), and moves the optimizer once for each batch; its validation data, as
    `evaluate` and a call, take (images, views, dim) and targets (images,).

    It works with logits, so its loss must, too. What dropout keeps is drawn outside, because TensorFlow needs as long
    to draw it as for all steps of an epoch.
    """

    def __init__(self, head: Any) -> None:
        super().__init__(name="head_trainer")
        self.head = head
        self._normalize, self._drop_out, self._classify = head.layers

    def call(self, views: Any, training: bool = False) -> Any:
        """Return logits, (images, classes), of probabilities averaged over views, of features (images, views, dim)."""
        # normalization is linear, so it can be a part of the weights, which are few, and not of the features
        deviation = keras.ops.maximum(keras.ops.sqrt(self._normalize.variance[0]), keras.config.epsilon())
        kernel = self._classify.kernel / deviation[:, None]
        bias = self._classify.bias - keras.ops.matmul(self._normalize.mean[0], kernel)
        probabilities = self._classify.activation(keras.ops.matmul(views, kernel) + bias)
        return keras.ops.log(keras.ops.maximum(keras.ops.mean(probabilities, axis=1), keras.config.epsilon()))

    def train_step(self, block: Any) -> Any:
        """Learn from a block and return the metrics by name."""
        features, kept, targets, weights = block
        # what is not learnt is done for all batches at once
        features = tf.where(kept, self._normalize(features), 0.0) / (1 - self._drop_out.rate)
        losses, logits = self._take_steps(features, targets, weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(losses, tf.fill(tf.shape(losses), tf.shape(targets)[1]))
            else:
                metric.update_state(targets, logits)
        return self.get_metrics_result()

    @tf.function
    def _take_steps(self, features: Any, targets: Any, weights: Any) -> Any:
        """Take a step for each batch; return losses (batches,) and logits (batches, batch, classes)."""
        batches = tf.shape(features)[0]
        losses = tf.TensorArray(tf.float32, batches)
        logits = tf.TensorArray(tf.float32, batches)
        learnt = self._classify.trainable_variables
        for number in tf.range(batches):
            with tf.GradientTape() as tape:
                predicted = keras.ops.matmul(features[number], self._classify.kernel) + self._classify.bias
                loss = self.compute_loss(y=targets[number], y_pred=predicted, sample_weight=weights[number])
            self.optimizer.apply(tape.gradient(loss, learnt), learnt)
            losses = losses.write(number, loss)
            logits = logits.write(number, predicted)
        return losses.stack(), logits.stack()
