"""The pretrained weights as records: published ones (official release, InPlace-ABN release, resnet38d-tf), and this project's.

The official download host is offline and files survive in mirrors: a file is identified by its checksum, not by its address or name.
Nothing here needs Keras or NumPy.
"""

from __future__ import annotations

import dataclasses
import functools

from keras_widerresnet.errors import InputError
from keras_widerresnet.protocols import ClassificationProtocol, SegmentationProtocol
from keras_widerresnet.structures import Structure, find_structure, same_network

OFFICIAL_LICENCE = "the release's LICENSE file is Apache 2.0, but its README limits code and models to academic use"
CONVERTED_SUFFIX = ".weights.h5"
SHORT_OFFICIAL_LICENCE = "Apache 2.0 (LICENSE), academic use only (README)"
OWN_LICENCE = "Apache 2.0, as this repository; data: CIFAR-10 (A. Krizhevsky, 2009), whose page states no licence and asks to be cited"
INPLACE_ABN_LICENCE = "see the InPlace-ABN release, github mapillary/inplace_abn"
CLASSIFICATION_PREPROCESSING = "RGB / 255, minus the mean, divided by the standard deviation; shorter side resized (bicubic), centre crop"
SEGMENTATION_PREPROCESSING = "RGB / 255, minus the mean, divided by the standard deviation; longer side resized (bicubic), the whole image"
_OFFICIAL, _INPLACE_ABN, _THIRD_PARTY = "official release", "InPlace-ABN release", "a third party's measurement of the release"
_OWN = "measured by this project"
_ILSVRC, _ILSVRC_IMAGES = "ILSVRC 2012 val", 50_000
_H5_RELEASE = "https://github.com/lucasdavid/resnet38d-tf/releases/download/0.0.1/"
# Mirrors named in the READMEs of public repositories; downloads are verified by checksum.
_A1_MIRRORS = (
    "https://www.dropbox.com/s/n2eewzy7bn7lhk0/ilsvrc-cls_rna-a1_cls1000_ep-0001.params?dl=1",
    "https://ktse.oss-cn-shanghai.aliyuncs.com/ilsvrc-cls_rna-a1_cls1000_ep-0001.params",
)


@dataclasses.dataclass(frozen=True)
class OriginalFile:
    """A file of weights, identified by `md5` or `sha256`. `include_top` is False if it does not contain the classifier."""

    name: str
    md5: str = ""
    sha256: str = ""
    addresses: tuple[str, ...] = ()
    include_top: bool = True

    @property
    def checksum(self) -> str:
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}"

    @property
    def is_converted(self) -> bool:
        """Whether the file is in this package's own format, as this project's weights are: it needs no conversion."""
        return self.name.endswith(CONVERTED_SUFFIX)


@dataclasses.dataclass(frozen=True)
class PublishedResult:
    """A published classification result.

    Args:
        seen: the view of an image on which the network was tested.
        top1_error, top5_error: errors in percent.
        source: who measured it.
        is_accuracy: whether the source reports accuracies, which are 100 minus the errors.
        data, images: data set and split, and its number of images.
    """

    seen: str
    top1_error: float
    top5_error: float
    source: str
    is_accuracy: bool = False
    data: str = _ILSVRC
    images: int = _ILSVRC_IMAGES

    def __str__(self) -> str:
        errors = (self.top1_error, self.top5_error)
        top1, top5 = (100 - error for error in errors) if self.is_accuracy else errors
        return f"{self.data}, {self.seen}: {top1:.2f} / {top5:.2f} top-1 / top-5 {'accuracy' if self.is_accuracy else 'error'} %"


_cifar10 = functools.partial(PublishedResult, source=_OWN, is_accuracy=True, data="CIFAR-10 test", images=10_000)


@dataclasses.dataclass(frozen=True)
class PublishedScores:
    """A published segmentation result.

    Args:
        data: data set and split.
        seen: the views of an image on which the network was tested; empty if the source does not specify them.
        mean_iou, pixel_accuracy: scores in percent; None if the source does not report it.
        source: who measured it.
    """

    data: str
    seen: str
    mean_iou: float
    pixel_accuracy: float | None
    source: str

    def __str__(self) -> str:
        conditions = f" ({self.seen})" if self.seen else ""
        accuracy = "" if self.pixel_accuracy is None else f"pixel accuracy {self.pixel_accuracy:.2f}, "
        return f"{self.data}{conditions}: {accuracy}{self.mean_iou:.2f} mIoU"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights that can be loaded by name.

    Args:
        name: the value of `weights=`.
        structure: the backbone's name in `structures.STRUCTURES`, or its notation.
        classes: number of classes.
        files: the originals that contain them, the most complete first.
        results: the published results for these weights, those of the files' authors first; empty if there are none.
        protocol: test protocol of the first of `results`; None if its source does not specify it.
        width: factor for the channels.
        crop_size: side of the images on which it was trained; 0 for the structure's own.
        class_names: the names of the classes; empty for those of the benchmark.
        note: description of the weights, if there is no result.
        classifier_convs: number of convolutions in the segmentation head, 0 for classification.
        classifier_bias: whether the classifier has a bias.
        classifier_activation: activation of the classifier's outputs: `"sigmoid"` if an image may show several of the classes.
        output_stride: output stride at which a classification network was trained; None for the structure's own.
        activation: the activation with which the network must be built.
        pool_padding: the only pool convention that fits; None if the choice is left to the user.
        tested_pool_padding: the pool convention of the first of `results`, if the choice is left to the user: the official release
            evaluates with another convention than it trains with. Empty if `pool_padding` is set, or there are no pools.
        licence, short_licence, preprocessing: human-readable notes, the short one for tables.
    """

    name: str
    structure: str
    classes: int
    files: tuple[OriginalFile, ...]
    _: dataclasses.KW_ONLY
    results: tuple[PublishedResult, ...] | tuple[PublishedScores, ...] = ()
    protocol: ClassificationProtocol | SegmentationProtocol | None = None
    width: float = 1.0
    crop_size: int = 0
    class_names: tuple[str, ...] = ()
    note: str = ""
    classifier_convs: int = 0
    classifier_bias: bool = True
    classifier_activation: str = "softmax"
    output_stride: int | None = None
    activation: str = "relu"
    pool_padding: str | None = None
    tested_pool_padding: str = ""
    licence: str = OFFICIAL_LICENCE
    short_licence: str = SHORT_OFFICIAL_LICENCE
    preprocessing: str = CLASSIFICATION_PREPROCESSING

    @property
    def result(self) -> str:
        """The result stated by the files' authors, with its conditions, in words."""
        return str(self.results[0]) if self.results else f"{self.note}; no published result"

    @property
    def include_top(self) -> bool:
        """Whether one of the files contains the classifier or segmentation head too."""
        return any(file.include_top for file in self.files)

    @property
    def builder(self) -> str:
        """The function of this package that builds the network, or its backbone: `"WideResNetA1"`, or `"WiderResNet"` for a notation."""
        return f"WideResNet{self.structure}" if self.structure.isalnum() else "WiderResNet"


PRETRAINED: dict[str, Pretrained] = {
    record.name: record
    for record in (
        Pretrained(
            "imagenet-a",
            "A",
            1000,
            (OriginalFile("ilsvrc-cls_rna-a_cls1000_ep-0001.params", md5="2421c1945b6797cecd3f89db14ca73f6"),),
            results=(
                PublishedResult("one 320 crop", 19.20, 4.73, _OFFICIAL),
                PublishedResult("one 224 crop of scale 256", 20.66, 5.27, _THIRD_PARTY),
                PublishedResult("one 320 crop", 19.25, 4.66, _THIRD_PARTY),
            ),
            protocol=ClassificationProtocol((320,)),
            tested_pool_padding="valid",
        ),
        Pretrained(
            "imagenet-a1",
            "A1",
            1000,
            (
                OriginalFile(
                    "ilsvrc-cls_rna-a1_cls1000_ep-0001.params",
                    md5="ff21f45d6bf03284100dcbec571edfad",
                    addresses=_A1_MIRRORS,
                ),
                OriginalFile(
                    "resnet38d_imagenet.h5",
                    sha256="cf33dc7e57150679ecf288033c1150dec4b08eed83d291c02c9fa341596d1d9b",
                    addresses=(f"{_H5_RELEASE}resnet38d_imagenet.h5",),
                    include_top=False,
                ),
            ),
            results=(PublishedResult("one 320 crop", 19.54, 4.75, _OFFICIAL),),
            protocol=ClassificationProtocol((320,)),
        ),
        Pretrained(
            "imagenet-inplace-abn",
            "A",
            1000,
            (OriginalFile("wide_resnet38_ipabn_lr_256.pth.tar", md5="1c085ab70b789cc1d6c1594f7a761007"),),
            results=(
                PublishedResult("one 224 crop", 20.28, 5.22, _INPLACE_ABN, is_accuracy=True),
                PublishedResult("ten crops", 18.97, 4.57, _INPLACE_ABN, is_accuracy=True),
                PublishedResult("one 320 crop", 19.31, 4.73, _INPLACE_ABN, is_accuracy=True),
            ),
            protocol=ClassificationProtocol((256,), crop_size=224),
            activation="leaky_relu",
            pool_padding="symmetric",
            licence=INPLACE_ABN_LICENCE,
            short_licence=INPLACE_ABN_LICENCE,
        ),
        Pretrained(
            "voc-backbone",
            "A1",
            20,
            (
                OriginalFile(
                    "resnet38d_voc2012.h5",
                    sha256="a33cbbdca220cd35c011c1a58936e448a2b1b32833d1b4114b826496d972a749",
                    addresses=(f"{_H5_RELEASE}resnet38d_voc2012.h5",),
                ),
            ),
            note="psa's VOC 2012 image classifier",
            classifier_bias=False,
            classifier_activation="sigmoid",
            output_stride=8,
        ),
        Pretrained(
            "voc",
            "A1",
            21,
            (OriginalFile("voc_rna-a1_cls21_s8_ep-0001.params", md5="a34628a63d5f62dcb98c29c4e281f332"),),
            results=(PublishedScores("VOC 2012 val", "500, flip", 80.84, None, _OFFICIAL),),
            protocol=SegmentationProtocol((500,), flip=True),
            classifier_convs=2,
            preprocessing=SEGMENTATION_PREPROCESSING,
        ),
        Pretrained(
            "voc-coco",
            "A1",
            21,
            (OriginalFile("voc_rna-a1_cls21_s8_coco_ep-0001.params", md5="328c0eca0c45b6345ada2f95edce68d4"),),
            results=(PublishedScores("VOC 2012 val", "500, flip", 82.86, None, _OFFICIAL),),
            protocol=SegmentationProtocol((500,), flip=True),
            classifier_convs=2,
            preprocessing=SEGMENTATION_PREPROCESSING,
        ),
        Pretrained(
            "cityscapes",
            "A1",
            19,
            (OriginalFile("cityscapes_rna-a1_cls19_s8_ep-0001.params", md5="226b3e861a6be7d0dc84e537f4eab154"),),
            results=(PublishedScores("Cityscapes val", "", 78.08, None, _OFFICIAL),),
            classifier_convs=2,
            preprocessing=SEGMENTATION_PREPROCESSING,
        ),
        Pretrained(
            "ade20k",
            "A1",
            150,
            (OriginalFile("ade20k_rna-a1_cls150_s8_ep-0001.params", md5="1faf29850bfa194678f0b8e1cbbffa98"),),
            results=(PublishedScores("ADE20K val", "500, flip, test_steps 2", 43.34, 80.55, _OFFICIAL),),
            protocol=SegmentationProtocol((500,), test_steps=2, flip=True),
            classifier_convs=2,
            preprocessing=SEGMENTATION_PREPROCESSING,
        ),
        # Part of this repository, in saved_models/cifar10: its numbers are those of the report and the evaluations there.
        Pretrained(
            "cifar10",
            "64-1-1-1-1-0-0-0",
            10,
            (OriginalFile("cifar10.weights.h5", sha256="d8c768aa66b8d5b6d453ca8e4594f76893e803edbc992b39d0a3a6ea5de8f248"),),
            results=(
                _cifar10("one 32 crop", 7.35, 0.27),
                _cifar10("one 32 crop, mirrored too", 6.69, 0.20),
                _cifar10("one 32 crop, export with 16-bit kernels", 7.35, 0.27),
            ),
            protocol=ClassificationProtocol((32,)),
            width=0.75,
            crop_size=32,
            class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            licence=OWN_LICENCE,
            short_licence="Apache 2.0",
        ),
    )
}
# The record of `weights="imagenet"` for each structure with official weights.
IMAGENET = {"A": "imagenet-a", "A1": "imagenet-a1"}


def find_record(weights: str, structure: Structure) -> Pretrained | None:
    """Returns the record that a name refers to for a structure; None if `weights` is not a name.

    Raises:
        InputError: for `"imagenet"`, if no official weights of the structure were published.
    """
    return imagenet_record(structure) if weights == "imagenet" else PRETRAINED.get(weights)


def imagenet_record(structure: Structure) -> Pretrained:
    """Returns the record that `"imagenet"` refers to for a structure.

    Raises:
        InputError: if no official weights of the structure were published.
    """
    for key, name in IMAGENET.items():
        if same_network(key, structure):
            return PRETRAINED[name]
    models = " and ".join(f"Model {key}" for key in IMAGENET)
    raise InputError(
        f"Official ImageNet weights were published for {models} only, not for {structure.name or structure}. Use weights=None or a file"
    )


def size_mb(record: Pretrained) -> float:
    """Returns the size of a record's float32 parameters and statistics in MB (10^6 bytes), with the head if a file contains it."""
    structure = find_structure(record.structure)
    is_classifier = record.include_top and not record.classifier_convs
    values = structure.parameters(
        classes=record.classes, width=record.width, include_top=is_classifier, classifier_bias=record.classifier_bias
    )
    values += structure.statistics(width=record.width)
    if record.classifier_convs:
        values += structure.head_parameters(classes=record.classes, classifier_convs=record.classifier_convs)
    return values * 4 / 1e6
