"""psa's class activation maps, computed by PyTorch and PIL alone: `python tests/data/psa_maps.py` writes `psa_maps.npz`.

The network is psa's resnet38d at 1/16 of its width (output stride 8, symmetric padding, a classifier without bias), with the parameters of
`refparams`. The procedure is that of psa's `infer_cls.py`: sizes 0.5, 1, 1.5 and 2 (bicubic, by PIL, rounded to bytes), mirrored images,
ReLU, bilinear enlargement, sum, division by the maximum + 1e-5.
"""

import pathlib

import numpy as np
import refparams

SCALES, CLASSES, CHOSEN = (0.5, 1.0, 1.5, 2.0), 20, (3, 11)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 1e-5  # PyTorch's default, as in psa
# Official unit -> input channels, filters, kernel sizes, stride and dilation of each convolution.
UNITS = {}
for stage, count, channels, filters, stride, dilations in (
    (2, 3, 8, (8, 8), 2, (1, 1)),
    (3, 3, 8, (16, 16), 2, (1, 1)),
    (4, 6, 16, (32, 32), 2, (1, 1)),
    (5, 3, 32, (32, 64), 1, (1, 2)),
):
    for i in range(count):
        first = i == 0
        later = (dilations[1],) * 2
        UNITS[f"{stage}{'a' if first else f'b{i}'}"] = (
            channels if first else filters[-1],
            filters,
            (3, 3),
            stride if first else 1,
            dilations if first else later,
        )
UNITS["6a"] = (64, (32, 64, 128), (1, 3, 1), 1, (1, 4, 1))
UNITS["7a"] = (128, (64, 128, 256), (1, 3, 1), 1, (1, 4, 1))
BRANCHES = {2: ("branch2a", "branch2b1"), 3: ("branch2a", "branch2b1", "branch2b2")}
LAST = 256


def parameter(name, *shape):
    import torch

    return torch.from_numpy(refparams.array(name, shape))


def batch_norm_relu(x, name):
    import torch.nn.functional as F

    mean, variance, gamma, beta = (parameter(f"{name}_{key}", x.shape[1]) for key in ("moving_mean", "moving_var", "gamma", "beta"))
    return F.relu(F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=EPSILON))


def unit(x, name):
    import torch.nn.functional as F

    channels, filters, kernels, stride, dilations = UNITS[name]
    shortcut, first = x, channels
    for place, branch in enumerate(BRANCHES[len(filters)]):
        x = batch_norm_relu(x, f"bn{name}_{branch}")
        if place == 0 and name.endswith("a"):
            shortcut = F.conv2d(x, parameter(f"res{name}_branch1_weight", filters[-1], channels, 1, 1), stride=stride)
        kernel, dilation = kernels[place], dilations[place]
        weight = parameter(f"res{name}_{branch}_weight", filters[place], first, kernel, kernel)
        x = F.conv2d(x, weight, stride=stride if place == 0 else 1, padding=dilation * (kernel // 2), dilation=dilation)
        first = filters[place]
    return x + shortcut


def features(x):
    import torch.nn.functional as F

    x = F.conv2d(x, parameter("conv1a_weight", 8, 3, 3, 3), padding=1)
    for name in UNITS:
        x = unit(x, name)
    return batch_norm_relu(x, "bn7")


def classifier():
    return parameter(f"linear{CLASSES}_weight", CLASSES, LAST)


def logits(image):
    """Logits (classes,) of a uint8 image (H, W, 3)."""
    return (features(as_input(image)).mean((2, 3)) @ classifier().T)[0].numpy()


def as_input(image):
    import torch

    normalised = (image / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(normalised.astype(np.float32).transpose(2, 0, 1)[None].copy())


def maps(image, resized):
    """Normalised maps (H, W, 2) of the chosen classes; `resized` gives the network's input for a size (height, width)."""
    import torch
    import torch.nn.functional as F

    total = np.zeros((len(CHOSEN), *image.shape[:2]))
    kernel = classifier()[list(CHOSEN), :, None, None]
    with torch.no_grad():
        for scale in SCALES:
            for mirrored in (False, True):
                x = resized(tuple(round(side * scale) for side in image.shape[:2]))
                x = torch.flip(x, (3,)) if mirrored else x
                activation = F.relu(F.conv2d(features(x), kernel))
                activation = F.interpolate(activation, image.shape[:2], mode="bilinear", align_corners=False)[0]
                total += (torch.flip(activation, (2,)) if mirrored else activation).numpy()
    return (total / (total.max((1, 2), keepdims=True) + 1e-5)).transpose(1, 2, 0)


def maps_of_bytes(image):
    """With PIL's bicubic resizing of the photograph, as psa does."""
    from PIL import Image

    picture = Image.fromarray(image)
    return maps(image, lambda size: as_input(np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC))))


def maps_of_floats(image):
    """With PyTorch's bicubic resizing of the normalised image, without rounding to bytes."""
    import torch.nn.functional as F

    x = as_input(image)

    def resized(size):
        return x if size == x.shape[2:] else F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)

    return maps(image, resized)


if __name__ == "__main__":
    from sklearn.datasets import load_sample_image

    image = np.ascontiguousarray(load_sample_image("flower.jpg")[40:360:8, 100:548:8])  # (40, 56, 3)
    found = {"of_bytes": maps_of_bytes(image), "of_floats": maps_of_floats(image)}
    stored = {name: np.round(65535 * values).astype(np.uint16) for name, values in found.items()}
    np.savez_compressed(pathlib.Path(__file__).with_suffix(".npz"), image=image, logits=logits(image), **stored)
