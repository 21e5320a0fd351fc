"""The pretrained weights that the world has, as records (spec: official release, InPlace-ABN release, resnet38d-tf).

The official download host is off and files live on in mirrors: a file is known by its checksum, never by its address or name.
"""

from __future__ import annotations

import dataclasses

OFFICIAL_LICENCE = "the release's LICENSE file is Apache 2.0, but its README limits code and models to academic use"
INPLACE_ABN_LICENCE = "see the InPlace-ABN release, github mapillary/inplace_abn"
PREPROCESSING = "RGB / 255, less the mean, over the deviation; shorter side resized (bicubic), centre crop"
_H5_RELEASE = "https://github.com/lucasdavid/resnet38d-tf/releases/download/0.0.1/"
# Mirrors that public repositories' READMEs name; the checksum decides.
_A1_MIRRORS = (
    "https://www.dropbox.com/s/n2eewzy7bn7lhk0/ilsvrc-cls_rna-a1_cls1000_ep-0001.params?dl=1",
    "https://ktse.oss-cn-shanghai.aliyuncs.com/ilsvrc-cls_rna-a1_cls1000_ep-0001.params",
)


@dataclasses.dataclass(frozen=True)
class OriginalFile:
    """A published file; `md5` or `sha256` is its identity. `include_top` is False where it lacks the classifier."""

    name: str
    md5: str = ""
    sha256: str = ""
    addresses: tuple[str, ...] = ()
    include_top: bool = True

    @property
    def checksum(self) -> str:
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights that can be asked for by name.

    Args:
        name: what `weights=` takes.
        structure: the name of the backbone in `structures.STRUCTURES`.
        classes: number of classes.
        files: the originals that hold them, the most complete first.
        result: the published result, with its conditions.
        classifier_convs: convolutions of the segmentation head, 0 for classification.
        activation: what the network must be built with.
        pool_padding: the only pool convention that fits; None where the choice is the user's.
        licence, preprocessing: notes for people.
    """

    name: str
    structure: str
    classes: int
    files: tuple[OriginalFile, ...]
    result: str
    classifier_convs: int = 0
    activation: str = "relu"
    pool_padding: str | None = None
    licence: str = OFFICIAL_LICENCE
    preprocessing: str = PREPROCESSING


PRETRAINED: dict[str, Pretrained] = {
    record.name: record
    for record in (
        Pretrained(
            "imagenet-a",
            "A",
            1000,
            (OriginalFile("ilsvrc-cls_rna-a_cls1000_ep-0001.params", md5="2421c1945b6797cecd3f89db14ca73f6"),),
            "ILSVRC 2012 val, one 320 crop: 19.20 / 4.73 top-1 / top-5 error %",
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
            "ILSVRC 2012 val, one 320 crop: 19.54 / 4.75 top-1 / top-5 error %",
        ),
        Pretrained(
            "imagenet-inplace-abn",
            "A",
            1000,
            (OriginalFile("wide_resnet38_ipabn_lr_256.pth.tar", md5="1c085ab70b789cc1d6c1594f7a761007"),),
            "ILSVRC 2012 val, 224 crop: 79.72 / 94.78 top-1 / top-5 accuracy %",
            activation="leaky_relu",
            pool_padding="symmetric",
            licence=INPLACE_ABN_LICENCE,
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
                    include_top=False,
                ),
            ),
            "psa's VOC 2012 image classifier; no result is published for it",
        ),
        Pretrained(
            "voc",
            "A1",
            21,
            (OriginalFile("voc_rna-a1_cls21_s8_ep-0001.params", md5="a34628a63d5f62dcb98c29c4e281f332"),),
            "VOC 2012 val (500, flip): 80.84 mIoU",
            classifier_convs=2,
        ),
        Pretrained(
            "voc-coco",
            "A1",
            21,
            (OriginalFile("voc_rna-a1_cls21_s8_coco_ep-0001.params", md5="328c0eca0c45b6345ada2f95edce68d4"),),
            "VOC 2012 val (500, flip): 82.86 mIoU",
            classifier_convs=2,
        ),
        Pretrained(
            "cityscapes",
            "A1",
            19,
            (OriginalFile("cityscapes_rna-a1_cls19_s8_ep-0001.params", md5="226b3e861a6be7d0dc84e537f4eab154"),),
            "Cityscapes val: 78.08 mIoU",
            classifier_convs=2,
        ),
        Pretrained(
            "ade20k",
            "A1",
            150,
            (OriginalFile("ade20k_rna-a1_cls150_s8_ep-0001.params", md5="1faf29850bfa194678f0b8e1cbbffa98"),),
            "ADE20K val (500, flip, test_steps 2): pixel accuracy 80.55, 43.34 mIoU",
            classifier_convs=2,
        ),
    )
}
# What `weights="imagenet"` means for each structure that has official weights.
IMAGENET = {"A": "imagenet-a", "A1": "imagenet-a1"}
