import pytest
import tensorflow as tf

from keras_widerresnet.training import strategy
from keras_widerresnet.training.steps import check_divisible

CLUSTER = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": %d}}'


@pytest.mark.parametrize("config", [None, "", "{", "{}", "[]", CLUSTER % 2, CLUSTER.replace('"task"', '"tasks"') % 0])
def test_multi_worker_needs_its_cluster(monkeypatch, config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="needs TF_CONFIG on every machine"):
        strategy.make_strategy("multi_worker")


def test_unknown_strategy():
    with pytest.raises(ValueError, match="mirrored"):
        strategy.make_strategy("horovod")


def test_no_tpu_here(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(ValueError, match="found no TPU"):
        strategy.make_strategy("tpu")


def test_one_device_is_chief():
    one = strategy.make_strategy("one_device")
    assert one.num_replicas_in_sync == 1 and strategy.is_chief(one)


@pytest.mark.parametrize("name", ["one_device", "mirrored"])
def test_a_single_cpu_takes_batches_as_they_are(name):
    batches = tf.data.Dataset.range(3)

    def make(context):
        assert (context.num_input_pipelines, context.input_pipeline_id, context.num_replicas_in_sync) == (1, 0, 1)
        return batches

    assert strategy.distributed(strategy.make_strategy(name), make) is batches


def test_batches_must_divide():
    check_divisible(48, 4, 3)
    with pytest.raises(ValueError, match=r"multiple of the 4 replicas\. Received: 50"):
        check_divisible(50, 4, 1)
    with pytest.raises(ValueError, match="4 replicas times --accumulate_steps=5"):
        check_divisible(48, 4, 5)
