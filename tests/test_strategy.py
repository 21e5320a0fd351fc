import pytest

from keras_widerresnet.training import strategy


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("images", [1000, 360, 1449, 10_000, 50_000, 12_007])
def test_every_replica_has_an_image_of_every_batch(images, replicas):
    size = strategy.test_batch_size(images, 32 * replicas, replicas)
    assert 0 < size <= 32 * replicas and size % replicas == 0
    share = size // replicas
    for batch in {min(size, images), images % size or size}:
        shares = [min(share, max(0, batch - replica * share)) for replica in range(replicas)]
        assert sum(shares) == batch and min(shares) > 0
    assert size <= images  # the first batch is whole


def test_one_replica_keeps_the_batch_size():
    assert strategy.test_batch_size(1000, 256, 1) == 256
    assert strategy.test_batch_size(10, 256, 1) == 10


def test_too_few_images_are_refused():
    for images in (3, 100):
        with pytest.raises(ValueError, match=f"{images} test images cannot be shared out among 8 replicas"):
            strategy.test_batch_size(images, 256, 8)
