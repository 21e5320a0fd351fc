"""What happens beside training: progress, checkpoints, the best model. All are Keras callbacks."""

from __future__ import annotations

import logging
import pathlib
import re
import shutil
import time
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.files import replacing
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.training.steps import Steps
from keras_widerresnet.weights.keras_file import keep_class_names

logger = logging.getLogger(__name__)


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` (training alone) and `learning_rate` to the logs of each epoch."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self._begin = self._end = time.perf_counter()
        self._images = 0

    def on_train_batch_end(self, batch, logs=None):
        self._end = time.perf_counter()
        self._images += self.batch_size

    def on_epoch_end(self, epoch, logs=None):
        # An epoch that was resumed at its end has none of its images left.
        logs["images_per_second"] = self._images / (self._end - self._begin) if self._images else 0.0
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Progress(keras.callbacks.Callback):
    """A bar over the whole run, with steps, images, images/s and the remaining time, and a line for each epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int, steps_done: int, score: str, validation: str):
        super().__init__()
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.score = score
        self.validation = validation
        self.bar = progress_bar(total=epochs * steps_per_epoch * batch_size, initial=steps_done * batch_size)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = f"epoch {epoch + 1}/{self.epochs}"

    def on_train_batch_end(self, batch, logs=None):
        self.bar.set_description(f"{self._epoch} step {batch + 1}/{self.steps_per_epoch}", refresh=False)
        if self.bar.update(self.batch_size):
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}", refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        name = self.score.replace("_", " ").replace("iou", "IoU")
        where = self.validation
        scores = f"{where} loss {logs['val_loss']:.4f}  {where} {name} {logs[f'val_{self.score}']:.4f}"
        trained = f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.4f}  {name} {logs[self.score]:.4f}"
        self.bar.write(f"{trained}  {scores}  {logs['images_per_second']:.1f} images/s")

    def close(self) -> None:
        self.bar.close()


class Checkpoint(keras.callbacks.Callback):
    """The whole training state after every epoch, complete or absent; the last two are kept.

    That is weights, momenta, averaged weights and statistics, random generators, number of steps, and the metrics of a half-done epoch.

    Args:
        directory: where the checkpoints are.
        steps: the run's steps, with their network and optimizer.
    """

    def __init__(self, directory: pathlib.Path, steps: Steps):
        super().__init__()
        self.steps = steps
        # TensorFlow does not find the generators of the dropout layers by itself.
        generators = [variable.value for variable in steps.network.variables if variable.path.endswith("seed_generator_state")]
        state = tf.train.Checkpoint(
            model=steps.network,
            optimizer=steps.optimizer,
            generators=generators,
            metrics=steps.kept_metrics,
            step=steps.done,
            averaged_statistics=[variable.value for variable in steps.averaged_statistics],
            averaged_steps=steps.averaged_steps,
        )
        self.manager = tf.train.CheckpointManager(state, str(directory), max_to_keep=2)

    def restore(self) -> None:
        """Restores the last checkpoint that can be read, if there is one.

        Raises:
            InputError: if there are checkpoints, and none of them can be read.
        """
        damaged: dict[str, str] = {}
        for path in reversed(self.manager.checkpoints):
            try:
                self.manager.checkpoint.restore(path)
            except Exception as error:  # TensorFlow raises many kinds
                logger.warning("%s is damaged (%s): the run goes on from the one before", path, first_line(error))
                damaged[path] = first_line(error)
                continue
            self.steps.recall_metrics()
            logger.info("Resumed from %s", path)
            return
        if damaged:
            listed = "; ".join(f"{path} ({why})" for path, why in damaged.items())
            raise InputError(f"No checkpoint can be read, --overwrite starts anew: {listed}")
        self.steps.recall_metrics()

    def remove_leftovers(self) -> None:
        """Removes what a killed process left: checkpoints half written, and whole ones that the list of checkpoints does not have."""
        listed = {pathlib.Path(path).name for path in self.manager.checkpoints}
        for entry in pathlib.Path(self.manager.directory).glob("*ckpt-*"):
            whole = re.fullmatch(r"(ckpt-\d+)\.(index|data-\d+-of-\d+)", entry.name)
            # Without a list, which TensorFlow replaces as a whole, nothing tells which of them are wanted.
            if not whole or (listed and whole[1] not in listed):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)

    def save(self) -> str:
        """Saves now; returns the checkpoint's path."""
        return self.manager.save()

    def on_epoch_end(self, epoch, logs=None):
        self.save()


class BestModel(keras.callbacks.Callback):
    """Saves the model, with its averaged weights if it has any, whenever its score on the validation images is the best so far."""

    def __init__(self, path: pathlib.Path, steps: Steps, score: str, best: float = -1.0, class_names: Sequence[str] = ()):
        super().__init__()
        self.path = path
        self.steps = steps
        self.score = f"val_{score}"
        self.best = best
        self.class_names = class_names

    def on_epoch_end(self, epoch, logs=None):
        if logs[self.score] > self.best:
            self.best = logs[self.score]
            with self.steps.averaged_weights(), replacing(self.path) as temporary:
                self.model.save(temporary)
                keep_class_names(temporary, self.class_names)
