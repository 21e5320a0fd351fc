"""One training run, from a `TrainingConfig` to a run directory."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import pathlib
import platform
import shutil

import keras
import tensorflow as tf

import keras_widerresnet
from keras_widerresnet.data import ImageData, load_data, pipeline
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation.report import write_report
from keras_widerresnet.files import replacing
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import find_structure
from keras_widerresnet.training import callbacks
from keras_widerresnet.training.config import TrainingConfig
from keras_widerresnet.training.optimizer import LinearDecay, TorchSGD
from keras_widerresnet.training.strategy import make_strategy, synchronize_batch_norm, test_batch_size

logger = logging.getLogger(__name__)

FLAGS_FILE = "flags.txt"
METRICS_FILE = "metrics.csv"
REPORT_FILE = "report.md"
PACKAGES = ("keras", "numpy", "tensorflow-datasets", "scikit-learn", "matplotlib")
TOP_K = 5


def train(config: TrainingConfig) -> pathlib.Path:
    """Trains a network and writes the run directory.

    The directory holds `flags.txt` (repeats the run), `versions.json`, `metrics.csv`, `tensorboard/`, `checkpoints/`, `best.keras`
    (best test accuracy), `final.keras`, `predictions.csv`, the pictures, and at last `report.md`. A run that was stopped at any moment and
    resumed reads the same images in the same order as one that was not.

    Returns:
        The path of the report.

    Raises:
        InputError: for settings or data that cannot be used, or an existing directory without `overwrite` or `resume`.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"Training runs on TensorFlow. Received: KERAS_BACKEND={keras.backend.backend()}")
    structure = find_structure(config.structure)
    run_dir = pathlib.Path(config.output_dir)
    if _is_finished(run_dir, config):
        logger.info("%s is finished already", run_dir)
        return run_dir / REPORT_FILE
    strategy = make_strategy(config.logical_devices)
    data = load_data(config.data, skip_corrupt=config.skip_corrupt, convert_rgb=config.convert_rgb, verify=config.verify_images)
    test_batch = _check_batch(config, data, strategy)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    crop_size = config.crop_size or structure.crop_size
    steps_per_epoch = config.steps_per_epoch or max(1, round(data.train.size / config.batch_size))
    with strategy.scope():
        model = _compiled_model(config, structure, data, crop_size, steps_per_epoch)
    _prepare(run_dir, config)
    with strategy.scope():
        checkpoint = callbacks.Checkpoint(run_dir / "checkpoints", model)
    steps_done = checkpoint.restore()
    logger.info(
        "%s: %s of width %g, %s parameters, %d training and %d test images, %d replicas",
        run_dir, structure, config.width, f"{model.count_params():,}", data.train.size, data.test.size, strategy.num_replicas_in_sync
    )  # fmt: skip
    train_batches = pipeline.train_batches(
        data.train,
        crop_size=crop_size,
        batch_size=config.batch_size,
        crop=config.crop,
        flip=config.flip,
        seed=config.seed,
        start_step=steps_done,
    )
    test_batches = pipeline.test_batches(data.test, crop_size=crop_size, batch_size=test_batch)
    initial_epoch = steps_done // steps_per_epoch
    best = _forget_later_epochs(run_dir / METRICS_FILE, initial_epoch)
    try:
        model.fit(
            train_batches,
            validation_data=test_batches,
            epochs=config.epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            shuffle=False,
            verbose=0,
            callbacks=[
                callbacks.Throughput(config.batch_size),
                callbacks.Progress(config.epochs, steps_per_epoch, config.batch_size, initial_epoch),
                keras.callbacks.CSVLogger(run_dir / METRICS_FILE, append=initial_epoch > 0),
                keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False),
                callbacks.BestModel(run_dir / "best.keras", best),
                checkpoint,
            ],
        )
    except tf.errors.InvalidArgumentError as error:
        unreadable = [f"{file} {problem}" for file, problem in data.find_unreadable().items()]
        if not unreadable:
            raise
        raise InputError(f"{len(unreadable)} images do not decode: {'; '.join(unreadable[:TOP_K])}") from error
    with replacing(run_dir / "final.keras") as temporary:
        model.save(temporary)
    probabilities = model.predict(test_batches, verbose=0)
    return write_report(run_dir, config, structure, data, crop_size, probabilities)


def _compiled_model(config: TrainingConfig, structure, data: ImageData, crop_size: int, steps_per_epoch: int) -> keras.Model:
    model = WiderResNet(
        structure,
        weights=config.weights or None,
        input_shape=(crop_size, crop_size, 3),
        classes=data.classes,
        pool_padding=config.pool_padding,
        dropout=config.dropout,
        width=config.width,
        downsampling=config.downsampling or None,
    )
    if config.sync_batch_norm:
        synchronize_batch_norm(model)
    metrics = ["accuracy"]
    if data.classes > TOP_K:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(TOP_K, name=f"top{TOP_K}_accuracy"))
    schedule = LinearDecay(config.learning_rate, config.epochs * steps_per_epoch)
    optimizer = TorchSGD(schedule, config.momentum, config.weight_decay)
    # On our CPU XLA took 10 to 14 s to the first step of a narrow network, against 5 s, and ran it no faster.
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=metrics, jit_compile=False)
    return model


def _is_finished(run_dir: pathlib.Path, config: TrainingConfig) -> bool:
    """Whether the run exists whole; refuses to touch an existing directory unless told to."""
    if not run_dir.exists() or (run_dir.is_dir() and not any(run_dir.iterdir())):
        return False
    is_run = (run_dir / FLAGS_FILE).is_file()
    if not (config.overwrite or config.resume):
        raise InputError(f"{run_dir} exists: --resume goes on with that run, --overwrite replaces it, --output_dir names another")
    if not is_run:
        raise InputError(f"{run_dir} exists and is not a run directory (no {FLAGS_FILE}): choose another --output_dir")
    if config.overwrite:
        return False
    config.check_same(run_dir / FLAGS_FILE)
    return (run_dir / REPORT_FILE).is_file()


def _check_batch(config: TrainingConfig, data: ImageData, strategy) -> int:
    """The batch size for testing; refuses one that the replicas cannot share."""
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise InputError(f"--batch_size must be a multiple of the {replicas} replicas. Received: {config.batch_size}")
    return test_batch_size(data.test.size, config.batch_size, replicas)


def _prepare(run_dir: pathlib.Path, config: TrainingConfig) -> None:
    if config.overwrite and run_dir.exists():
        shutil.rmtree(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with replacing(run_dir / FLAGS_FILE) as temporary:
        config.save(temporary)
    versions = {"python": platform.python_version(), "keras_widerresnet": keras_widerresnet.__version__, "tensorflow": tf.__version__}
    versions |= {package: importlib.metadata.version(package) for package in PACKAGES}
    with replacing(run_dir / "versions.json") as temporary:
        temporary.write_text(json.dumps(versions, indent=2) + "\n")


def _forget_later_epochs(path: pathlib.Path, initial_epoch: int) -> float:
    """Removes rows of epochs that a killed run logged but did not checkpoint; returns the best test accuracy of the rest."""
    if not path.exists() or not initial_epoch:
        path.unlink(missing_ok=True)
        return -1.0
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["epoch"]) < initial_epoch]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(rows)
    return max(float(row[callbacks.MONITORED]) for row in rows)
