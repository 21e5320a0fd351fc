"""One training run, from its configuration to its run directory."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import threading
import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar

import keras
import tensorflow as tf

from keras_widerresnet import runs
from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.data.problems import UNREADABLE, unreadable_files
from keras_widerresnet.data.split import ImageData, Share
from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.files import replacing
from keras_widerresnet.freezing import parameter_counts
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import find_structure, frozen_in_words
from keras_widerresnet.training import callbacks, faults
from keras_widerresnet.training.config import NO_VALIDATION, RunConfig
from keras_widerresnet.training.remat import give_back_freed_memory
from keras_widerresnet.training.steps import Steps, check_divisible
from keras_widerresnet.training.strategy import distributed, is_chief, make_strategy
from keras_widerresnet.training.task import Task
from keras_widerresnet.weights.keras_file import keep_class_names

logger = logging.getLogger(__name__)

CHECK_STEPS = 50  # between checks of the loss, which wait for the device

Config = TypeVar("Config", bound=RunConfig)


def train(config: Config, make_task: Callable[[Config], Task]) -> pathlib.Path:
    """Trains a network and writes the run directory.

    The directory contains the files listed in `runs`: the flags to repeat the run, versions, metrics of all epochs, TensorBoard logs,
    checkpoints, the network with the best validation score and the final one, the task's tables and pictures, and last the report. A
    run that was stopped at any moment and resumed reads the same images in the same order as an uninterrupted run. With several
    workers, the first one writes the directory, and all must be able to read it.

    Args:
        config: the run's settings.
        make_task: the task's class, e.g. `tasks.classification.task.Classification`; called after devices and seeds are set.

    Returns:
        The path of the report.

    Raises:
        InputError: for invalid settings or data, or an existing directory without `overwrite` or `resume`.
        RunStopped: on SIGTERM, a NaN loss, a full disk or a lost worker; the run can then be resumed.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"Training requires the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}")
    if config.remat:
        give_back_freed_memory()
    structure = find_structure(config.structure)
    config, is_finished = runs.may_start(config)
    run_dir = pathlib.Path(config.output_dir)
    if is_finished:
        logger.info("%s is already finished", run_dir)
        return run_dir / runs.REPORT_FILE
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(config.strategy, config.logical_devices)
    replicas = strategy.num_replicas_in_sync
    check_divisible(config.batch_size, replicas, config.accumulate_steps)
    task = make_task(config)
    data = task.data
    steps_per_epoch = config.steps_per_epoch or max(1, round(data.train.size / config.batch_size))
    with strategy.scope():
        network, metrics = task.make_network(steps_per_epoch), task.make_metrics()
    steps = Steps(
        network,
        strategy,
        batch_size=config.batch_size,
        losses=task.losses,
        test_losses=task.test_losses,
        metrics=metrics,
        remat=config.remat,
        jit_compile=config.jit_compile,
        accumulate_steps=config.accumulate_steps,
    )
    with faults.explained(), _explained_images(data):
        trained, parameters = parameter_counts(network)
        facts = {**task.facts(), "parameters": parameters, "trained_parameters": trained}
        run = runs.prepare(config, facts) if is_chief(strategy) else Run(run_dir)
        steps.agree(tf.constant(0))  # workers wait until the chief has prepared the directory
        logger.info(
            "%s: %s of width %g, %s parameters, %s training and %s test images, %d replica%s, learning rate %g for %d images per step",
            run_dir, structure, config.width, f"{network.count_params():,}", f"{data.train.size:,}", f"{data.test.size:,}",
            replicas, "s" if replicas > 1 else "", config.scaled_learning_rate, config.batch_size,
        )  # fmt: skip
        if config.freeze:
            logger.info("Frozen: %s; %s of %s parameters are trained", frozen_in_words(config.freeze), f"{trained:,}", f"{parameters:,}")
        logger.info("Every epoch is scored on %s images: %s", f"{task.validation.size:,}", task.validated_on)
        with faults.termination() as asked:
            _fit(task, run, steps, steps_per_epoch, asked)
        checksum = zlib.crc32(b"".join(variable.numpy().tobytes() for variable in network.variables))
        logger.info("Checksum of the weights after the last step: %08x", checksum)
        if is_chief(strategy):
            with steps.averaged_weights(), replacing(run.path / runs.FINAL_FILE) as temporary:
                network.save(temporary)
                keep_class_names(temporary, task.data.class_names)
            task.write_report(run)
    return run_dir / runs.REPORT_FILE


def _fit(task: Task, run: Run, steps: Steps, steps_per_epoch: int, asked: threading.Event) -> None:
    """Runs the remaining epochs with their callbacks."""
    config, strategy = task.config, steps.strategy
    checkpoint = callbacks.Checkpoint(run.path / runs.CHECKPOINTS_FOLDER, steps)
    checkpoint.restore()
    steps_done = int(steps.done.numpy())
    epochs_done = steps_done // steps_per_epoch
    listed = [callbacks.Throughput(config.batch_size)]
    shown: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if is_chief(strategy):
        progress = callbacks.Progress(config.epochs, steps_per_epoch, config.batch_size, steps_done, task.score, _validation_name(task))
        shown = contextlib.closing(progress)
        checkpoint.remove_leftovers()
        best = runs.forget_later_epochs(run, epochs_done, task.score)
        listed += [
            progress,
            keras.callbacks.CSVLogger(run.path / runs.METRICS_FILE, append=True),
            keras.callbacks.TensorBoard(run.path / runs.TENSORBOARD_FOLDER, write_graph=False),
            callbacks.BestModel(run.path / runs.BEST_FILE, steps, task.score, best, task.data.class_names),
            checkpoint,
        ]
    listed = keras.callbacks.CallbackList(listed, model=steps.network, epochs=config.epochs, steps=steps_per_epoch)
    train_iterator = iter(distributed(strategy, lambda context: task.train_batches(steps_done, **_part(context))))
    # Made once: tracing its functions takes as long as scoring a few hundred small images.
    validation_batches = distributed(strategy, lambda context: task.validation_batches(strategy.num_replicas_in_sync, **_part(context)))
    listed.on_train_begin()
    with shown:
        for epoch in range(epochs_done, config.epochs):
            listed.on_epoch_begin(epoch)
            first = int(steps.done.numpy()) - epoch * steps_per_epoch
            if first == 0:
                steps.reset_metrics()
            for step in range(first, steps_per_epoch):
                listed.on_train_batch_begin(step)
                loss = steps.train(train_iterator)
                listed.on_train_batch_end(step, {"loss": loss})
                if step + 1 < steps_per_epoch:  # after the last step the epoch is first scored, logged and saved
                    _check(steps, step, loss, asked, checkpoint)
            logs = steps.results()
            logs |= {f"val_{name}": value for name, value in _validate(task, steps, validation_batches, listed).items()}
            faults.check_finite(logs, int(steps.first_bad.numpy()), int(steps.done.numpy()))
            listed.on_epoch_end(epoch, logs)
            _stop_if_asked(steps, asked, checkpoint)
        listed.on_train_end()


def _validation_name(task: Task) -> str:
    return "test" if task.config.validation == NO_VALIDATION else "validation"


def _check(steps: Steps, step: int, loss: tf.Tensor, asked: threading.Event, checkpoint: callbacks.Checkpoint) -> None:
    """Raises `RunStopped` for a NaN or infinite loss, checked every `CHECK_STEPS` steps, or if the run was asked to stop."""
    is_time = (step + 1) % CHECK_STEPS == 0
    if is_time:
        faults.check_finite({"loss": float(loss)}, int(steps.first_bad.numpy()), int(steps.done.numpy()))
    if is_time or not _has_workers(steps):
        _stop_if_asked(steps, asked, checkpoint)


def _stop_if_asked(steps: Steps, asked: threading.Event, checkpoint: callbacks.Checkpoint) -> None:
    """Saves and raises `RunStopped` if any worker received SIGTERM; all workers must call this together."""
    if not (int(steps.agree(tf.constant(int(asked.is_set())))) if _has_workers(steps) else asked.is_set()):
        return
    steps.keep_metrics()
    saved = f", {checkpoint.save()} is saved" if is_chief(steps.strategy) else ""
    message = f"Stopped by SIGTERM after step {int(steps.done.numpy()) - 1}{saved}: {faults.RESUME}"
    raise RunStopped(message, faults.TERMINATED)


def _has_workers(steps: Steps) -> bool:
    return isinstance(steps.strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _validate(task: Task, steps: Steps, batches: Iterable, listed) -> dict[str, float]:
    """Returns the metrics over the validation images, with the averaged weights if there are any."""
    listed.on_test_begin()
    steps.reset_metrics()
    iterator = iter(batches)
    with steps.averaged_weights():
        for _ in range(task.validation_steps(steps.strategy.num_replicas_in_sync)):
            steps.test(iterator)
    results = steps.results()
    listed.on_test_end(results)
    return results


def _part(context: tf.distribute.InputContext) -> dict:
    workers = context.num_input_pipelines
    return {"share": Share(context.input_pipeline_id, workers), "parts": context.num_replicas_in_sync // workers}


@contextlib.contextmanager
def _explained_images(data: ImageData | SegmentationData):
    """Turns decoding errors during training into an `InputError` that names the files."""
    try:
        yield
    except UNREADABLE as error:
        number, shown = unreadable_files(data)
        if number:
            raise InputError(f"{number} images cannot be decoded: {shown}") from error
        if isinstance(error, tf.errors.InvalidArgumentError):
            raise  # the cause is unknown
        text = str(error).partition("\n")[0]
        raise InputError(f"Records of {data.name!r} are damaged or have changed since training began: {text}") from error
