"""What happens beside training: progress, checkpoints, the best model."""

from __future__ import annotations

import logging
import pathlib
import time

import keras
import tensorflow as tf

from keras_widerresnet.files import replacing
from keras_widerresnet.progress import progress_bar

logger = logging.getLogger(__name__)

MONITORED = "val_accuracy"


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` (training alone) and `learning_rate` to the logs of each epoch."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = self._end = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._end = time.perf_counter()
        self._images = (batch + 1) * self.batch_size

    def on_epoch_end(self, epoch, logs=None):
        logs["images_per_second"] = self._images / (self._end - self._begin)
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Progress(keras.callbacks.Callback):
    """A bar over the whole run, with images/s and the remaining time, and a line for each epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int, initial_epoch: int):
        super().__init__()
        self.epochs = epochs
        self.batch_size = batch_size
        epoch_images = steps_per_epoch * batch_size
        self.bar = progress_bar(total=epochs * epoch_images, initial=initial_epoch * epoch_images)

    def on_epoch_begin(self, epoch, logs=None):
        self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        if self.bar.update(self.batch_size):
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}", accuracy=f"{float(logs['accuracy']):.3f}", refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.write(
            f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.4f}  test loss {logs['val_loss']:.4f}  "
            f"test accuracy {logs['val_accuracy']:.4f}  {logs['images_per_second']:.0f} images/s"
        )

    def on_train_end(self, logs=None):
        self.bar.close()


class Checkpoint(keras.callbacks.Callback):
    """The whole training state after every epoch (weights, momenta, step, random generators), complete or absent; the last two are kept.

    Args:
        directory: where the checkpoints are.
        model: the compiled model.
    """

    def __init__(self, directory: pathlib.Path, model: keras.Model):
        super().__init__()
        model.optimizer.build(model.trainable_variables)
        # TensorFlow does not find the generators of the dropout layers by itself.
        generators = [variable.value for variable in model.variables if variable.path.endswith("seed_generator_state")]
        state = tf.train.Checkpoint(model=model, optimizer=model.optimizer, generators=generators)
        self.manager = tf.train.CheckpointManager(state, str(directory), max_to_keep=2)
        self.optimizer = model.optimizer

    def restore(self) -> int:
        """Restores the last checkpoint, if there is one, and returns the number of steps done."""
        path = self.manager.restore_or_initialize()
        if path:
            logger.info("Resumed from %s", path)
        return int(self.optimizer.iterations.numpy())

    def on_epoch_end(self, epoch, logs=None):
        self.manager.save()


class BestModel(keras.callbacks.Callback):
    """Saves the model whenever the test accuracy is the best so far."""

    def __init__(self, path: pathlib.Path, best: float = -1.0):
        super().__init__()
        self.path = path
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        if logs[MONITORED] > self.best:
            self.best = logs[MONITORED]
            with replacing(self.path) as temporary:
                self.model.save(temporary)
