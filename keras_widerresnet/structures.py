"""The paper's networks as records, the structure notation, and the quantities derived from a record.

Nothing here depends on Keras: a `Structure` describes a network, its `plan` lists the units and pools to build, and the builder
(`networks.py`), the parameter count and the multiply-adds all use that one plan.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterator, Sequence

from keras_widerresnet.errors import InputError
from keras_widerresnet.options import did_you_mean

STAGES = (1, 2, 3, 4, 5, 6, 7)
# Paper, network figure: filters of the convolutions of one unit in each stage; B6 and B7 are bottlenecks.
STAGE_FILTERS = {
    1: (64, 64),
    2: (128, 128),
    3: (256, 256),
    4: (512, 512),
    5: (512, 1024),
    6: (512, 1024, 2048),
    7: (1024, 2048, 4096),
}
KERNELS = {2: (3, 3), 3: (1, 3, 1)}
FINAL_SIZE = 7
MAX_HALVINGS = 5
POOL_PADDINGS = ("ceil", "symmetric", "valid")
DOWNSAMPLINGS = ("pool", "stride")
RELEASE_MAX_FILTERS = 1024
HEAD_FILTERS = 512
BACKBONE = "backbone"
FREEZABLE = (BACKBONE, *(f"B{stage}" for stage in STAGES))  # up to where a network can be frozen


@dataclasses.dataclass(frozen=True)
class Published:
    """Results reported in the paper: ILSVRC 2012 val errors in percent (single crop), images/s on the authors' GPU of 2016."""

    top1_error: float
    top5_error: float
    images_per_second: float


@dataclasses.dataclass(frozen=True)
class Unit:
    """One residual unit to be built; `filters`, `kernels` and `dilations` have one entry per convolution of branch 2."""

    name: str
    stage: int
    in_channels: int
    filters: tuple[int, ...]
    dilations: tuple[int, ...]
    stride: int
    projection: bool
    dropout: float

    @property
    def kernels(self) -> tuple[int, ...]:
        return KERNELS[len(self.filters)]


@dataclasses.dataclass(frozen=True)
class Pool:
    """A 3x3 max pool between two stages; stride 1 where a dilated network drops the halving."""

    name: str
    stride: int
    dilation: int


@dataclasses.dataclass(frozen=True)
class Structure:
    """A network of the paper's family, written `S-n1-n2-n3-n4-n5-n6-n7` (paper, section 4).

    Args:
        crop_size: S, the side of the training crop in pixels; it determines where the resolution is halved.
        units: n1..n7, the number of residual units in stages B1..B7.
        downsampling: method of each of the five possible halvings (before B2..B6): `"pool"` is a 3x3 max pool of stride 2,
            `"stride"` a first unit of stride 2 (official release, Models A, A1 and A2).
        name: the paper's or the release's name, e.g. `"A"` for Model A; empty for a user-defined structure.
        published: the paper's results, if it reports any.

    Raises:
        InputError: if the structure cannot be built.
    """

    crop_size: int
    units: tuple[int, ...]
    downsampling: tuple[str, ...] = ("pool",) * MAX_HALVINGS
    name: str = ""
    published: Published | None = None

    def __post_init__(self):
        if self.crop_size < FINAL_SIZE:
            raise InputError(f"The crop size must be at least {FINAL_SIZE} (the size of the last feature map). Received: {self}")
        if len(self.units) != len(STAGES) or min(self.units) < 0 or not any(self.units):
            raise InputError(f"A structure needs seven unit counts (B1..B7), none negative and not all zero. Received: {self}")
        if len(self.downsampling) != MAX_HALVINGS or not set(self.downsampling) <= set(DOWNSAMPLINGS):
            raise InputError(
                f"`downsampling` must have {MAX_HALVINGS} entries (before B2..B6), each one of {DOWNSAMPLINGS}. "
                f"Received: {self.downsampling}"
            )
        for stage in self.halvings:
            if self.halving_of(stage) == "stride" and self.units[stage - 1] == 0:
                raise InputError(f"B{stage} has no unit that could have a stride of 2: use 'pool' before B{stage}. Received: {self}")

    @classmethod
    def parse(cls, text: str) -> Structure:
        """Returns the structure written as `text`, e.g. `"112-1-1-1-1-9-1-1"`, with all halvings by pooling.

        Raises:
            InputError: if `text` is not eight whole numbers joined by hyphens.
        """
        if not isinstance(text, str) or not re.fullmatch(r"\d{1,6}(-\d{1,6}){7}", text.strip(), flags=re.ASCII):
            raise InputError(
                "A structure is written S-n1-n2-n3-n4-n5-n6-n7, the crop size and the number of units in B1..B7, "
                f"e.g. '224-0-3-3-6-3-1-1' for Model A. Received: {text!r}"
            )
        crop_size, *units = (int(number) for number in text.strip().split("-"))
        return cls(crop_size, tuple(units))

    def __str__(self) -> str:
        return "-".join(str(number) for number in (self.crop_size, *self.units))

    @property
    def depth(self) -> int:
        """Number of weighted layers on the longest path: conv1a, 2 per basic unit, 3 per bottleneck, the classifier (paper, section 4)."""
        return 2 + sum(len(STAGE_FILTERS[stage]) * count for stage, count in zip(STAGES, self.units, strict=True))

    @property
    def halvings(self) -> tuple[int, ...]:
        """The stages before which the resolution is halved: as many as leave a final map of at least 7x7, at most five."""
        count = 0
        while count < MAX_HALVINGS and self.crop_size >> (count + 1) >= FINAL_SIZE:
            count += 1
        return tuple(range(2, 2 + count))

    @property
    def output_stride(self) -> int:
        """Input pixels per output cell when no halving is dropped: 32 for S = 224, 16 for 112, 8 for 56."""
        return 2 ** len(self.halvings)

    def halving_of(self, stage: int) -> str:
        """Method of the halving before `stage` (2..6): `"pool"` or `"stride"`."""
        return self.downsampling[stage - 2]

    def replace(self, **changes) -> Structure:
        """Returns a copy with some fields changed; it keeps neither the name nor the published results."""
        return dataclasses.replace(self, **{"name": "", "published": None, **changes})

    def halved_by(self, downsampling: str | Sequence[str] | None) -> Structure:
        """Returns the structure with its halvings done by one method, or one for each; unchanged if `downsampling` is None or empty."""
        if downsampling is None or downsampling == "":
            return self
        return self.replace(downsampling=(downsampling,) * MAX_HALVINGS if isinstance(downsampling, str) else tuple(downsampling))

    def halvings_in_words(self, pool_padding: str, output_stride: int | None = None) -> str:
        """Describes how the resolution is halved, e.g. `"pool (ceil), pool (ceil), stride"`."""
        dropped = self._dropped_halvings(output_stride)
        ways = [self.halving_of(stage) for stage in self.halvings if stage not in dropped]
        return ", ".join(f"{way} ({pool_padding})" if way == "pool" else way for way in ways) or "none"

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that have units, B1 among them in any case: the stem belongs to it."""
        return tuple(stage for stage, count in zip(STAGES, self.units, strict=True) if count or stage == 1)

    def output_strides(self) -> tuple[int, ...]:
        """The supported output strides: the structure's own and those reached by dilation, down to 8."""
        return tuple(2**count for count in range(len(self.halvings), min(3, len(self.halvings)) - 1, -1))

    def plan(
        self,
        *,
        width: float | Sequence[float] = 1.0,
        output_stride: int | None = None,
        dropout: float | tuple[float, float] = 0.0,
    ) -> tuple[Unit | Pool, ...]:
        """Returns the units and pools of the network, in the order in which they are built.

        Args:
            width: a factor for all stages (channels rounded to a multiple of 8), or five factors for B1..B5 under the release's rule.
            output_stride: None for the structure's own, or one of `output_strides()`; halvings are dropped starting from the last
                one, and everything after a dropped one is dilated (official release).
            dropout: rate for B6 and B7, or a pair of rates; (0.3, 0.5) in the release's segmentation networks.

        Raises:
            InputError: if the output stride, width or rate is not supported.
        """
        dropped = self._dropped_halvings(output_stride)
        filters = stage_filters(width)
        rates = _dropout_rates(dropout)
        channels = filters[1][0]
        dilation = 1
        plan: list[Unit | Pool] = []
        for stage, count in zip(STAGES, self.units, strict=True):
            convolutions = len(filters[stage])
            stride, first = 1, (dilation,) * convolutions
            if stage in self.halvings and self.halving_of(stage) == "pool":
                plan.append(Pool(f"pool{stage - 1}", 1 if stage in dropped else 2, dilation))
                dilation *= 2 if stage in dropped else 1
                first = (dilation,) * convolutions
            elif stage in dropped:
                # In the unit that would have halved the resolution, the first convolution keeps the incoming dilation.
                dilation *= 2
                first = (*first[:1], *(dilation,) * (convolutions - 1))
            elif stage in self.halvings:
                stride = 2
            rest = (dilation,) * convolutions
            for index in range(count):
                projection = stage > 1 and index == 0
                plan.append(
                    Unit(
                        name=_unit_name(stage, index),
                        stage=stage,
                        in_channels=channels,
                        filters=filters[stage],
                        dilations=first if projection else rest,
                        stride=stride if projection else 1,
                        projection=projection,
                        dropout=rates.get(stage, 0.0),
                    )
                )
                channels = filters[stage][-1]
        return tuple(plan)

    def _dropped_halvings(self, output_stride: int | None) -> tuple[int, ...]:
        allowed = self.output_strides()
        if output_stride is None:
            return ()
        if output_stride not in allowed:
            raise InputError(f"`output_stride` of {self} must be None or one of {allowed}. Received: {output_stride}")
        return self.halvings[len(self.halvings) - allowed.index(output_stride) :]

    def spatial_sizes(self, size: int | None = None, *, pool_padding: str = "ceil", output_stride: int | None = None) -> dict[int, int]:
        """Side of each stage's output, in cells, for a square input of `size` pixels (default: the crop size): {1: 224, 2: 112, ...}.

        Raises:
            InputError: if the input is too small for the halvings.
        """
        size = self.crop_size if size is None else size
        dropped = self._dropped_halvings(output_stride)
        sizes = {}
        cells = size
        for stage in STAGES:
            if stage in self.halvings and stage not in dropped:
                cells = halved(cells, pool_padding if self.halving_of(stage) == "pool" else "stride")
            if cells < 1:
                minimum = self.minimum_size(pool_padding=pool_padding, output_stride=output_stride)
                raise InputError(f"Images for {self} must be at least {minimum} pixels on each side. Received: {size}")
            sizes[stage] = cells
        return sizes

    def minimum_size(self, *, pool_padding: str = "ceil", output_stride: int | None = None) -> int:
        """The smallest image side, in pixels, that leaves at least one cell at the end."""
        size = 1
        for stage in reversed(self.halvings):
            if stage not in self._dropped_halvings(output_stride):
                convention = pool_padding if self.halving_of(stage) == "pool" else "stride"
                size = next(n for n in range(1, 2 * size + 4) if halved(n, convention) >= size)
        return size

    def parameters(
        self,
        *,
        classes: int = 1000,
        width: float | Sequence[float] = 1.0,
        include_top: bool = True,
        channels: int = 3,
        classifier_bias: bool = True,
    ) -> int:
        """Number of trainable parameters (kernels, batch-norm scales and shifts, the classifier's weight and bias)."""
        total = sum(kernel**2 * cin * cout for kernel, cin, cout, _ in self._convolutions(width, channels))
        total += 2 * sum(self._normalised_channels(width))
        return total + (classes * (self._last_channels(width) + classifier_bias) if include_top else 0)

    def statistics(self, *, width: float | Sequence[float] = 1.0) -> int:
        """Number of batch-norm running statistics (means and variances)."""
        return 2 * sum(self._normalised_channels(width))

    def head_parameters(self, *, classes: int, classifier_convs: int = 2, width: float | Sequence[float] = 1.0) -> int:
        """Parameters of the segmentation head: one or two 3x3 convolutions with bias (official release)."""
        channels = (self._last_channels(width), *head_filters(classes, classifier_convs, width))
        return sum(9 * cin * cout + cout for cin, cout in itertools.pairwise(channels))

    def multiply_adds(
        self, size: int | None = None, *, classes: int = 1000, width: float | Sequence[float] = 1.0, pool_padding: str = "ceil"
    ) -> int:
        """Multiply-adds of convolutions and classifier for one square image of `size` pixels (default: the crop size)."""
        sizes = self.spatial_sizes(size, pool_padding=pool_padding)
        convolutions = self._convolutions(width, 3)
        return sum(k**2 * cin * cout * sizes[stage] ** 2 for k, cin, cout, stage in convolutions) + classes * self._last_channels(width)

    def _units(self, width) -> list[Unit]:
        return [item for item in self.plan(width=width) if isinstance(item, Unit)]

    def _convolutions(self, width, channels: int) -> Iterator[tuple[int, int, int, int]]:
        """(kernel, input channels, output channels, stage) of every convolution; all but conv1a run at their stage's output size."""
        yield 3, channels, stage_filters(width)[1][0], 1
        for unit in self._units(width):
            yield from zip(
                unit.kernels,
                (unit.in_channels, *unit.filters),
                unit.filters,
                (unit.stage,) * len(unit.filters),
                strict=False,
            )
            if unit.projection:
                yield 1, unit.in_channels, unit.filters[-1], unit.stage

    def _normalised_channels(self, width) -> Iterator[int]:
        for unit in self._units(width):
            yield from (unit.in_channels, *unit.filters[:-1])
        yield self._last_channels(width)

    def _last_channels(self, width) -> int:
        return self._units(width)[-1].filters[-1]


def halved(size: int, convention: str) -> int:
    """Returns the cells after one halving: by a 3x3 pool of that padding convention, or by a strided convolution for `"stride"`."""
    if convention in ("symmetric", "stride"):
        return (size + 1) // 2
    if convention == "ceil":
        return size // 2
    return max((size - 1) // 2, 0)


def scaled_filters(count: int, width: float) -> int:
    """Returns `count` times `width`, rounded to the nearest multiple of 8, at least 8."""
    return max(8, int(count * width / 8 + 0.5) * 8)


def head_filters(classes: int, classifier_convs: int, width: float | Sequence[float] = 1.0) -> tuple[int, ...]:
    """Returns the filters of the segmentation head's convolutions; a single factor scales all but the last, five scale none of them."""
    filters = HEAD_FILTERS if isinstance(width, Sequence) else scaled_filters(HEAD_FILTERS, width)
    return (*(filters,) * (classifier_convs - 1), classes)


def stage_filters(width: float | Sequence[float] = 1.0) -> dict[int, tuple[int, ...]]:
    """Returns the filters of the convolutions of one unit, by stage.

    A single factor scales every stage, rounding to a multiple of 8. Five factors (B1..B5) follow the official release: at most 1024
    filters, B5's first convolution no narrower than B4, its second no narrower than its first, B6 and B7 unchanged.

    Raises:
        InputError: if `width` is neither one positive number nor five of them.
    """
    factors = tuple(width) if isinstance(width, Sequence) and not isinstance(width, str) else (width,)
    if len(factors) not in (1, 5) or not all(isinstance(f, (int, float)) and 0 < f < float("inf") for f in factors):
        raise InputError(f"`width` must be one positive number, or five for B1..B5. Received: {width!r}")
    if len(factors) == 1:
        return {stage: tuple(scaled_filters(count, factors[0]) for count in filters) for stage, filters in STAGE_FILTERS.items()}

    def scaled(count: int, stage: int) -> int:
        return max(1, min(RELEASE_MAX_FILTERS, int(count * factors[stage - 1])))

    filters = dict(STAGE_FILTERS)
    for stage in (1, 2, 3, 4):
        filters[stage] = (scaled(STAGE_FILTERS[stage][0], stage),) * 2
    first = max(filters[4][-1], scaled(STAGE_FILTERS[5][0], 5))
    filters[5] = (first, max(first, scaled(STAGE_FILTERS[5][1], 5)))
    return filters


def _dropout_rates(dropout) -> dict[int, float]:
    rates = tuple(dropout) if isinstance(dropout, Sequence) and not isinstance(dropout, str) else (dropout, dropout)
    if len(rates) != 2 or not all(isinstance(rate, (int, float)) and 0 <= rate < 1 for rate in rates):
        raise InputError(f"`dropout` must be a rate in [0, 1) or a pair of them for B6 and B7. Received: {dropout!r}")
    return {6: float(rates[0]), 7: float(rates[1])}


def _unit_name(stage: int, index: int) -> str:
    """Returns the official name of a unit: 2a, 2b1, 2b2, ...; B1 has no projection unit, so its units are 1b1, 1b2, ..."""
    if stage == 1:
        return f"1b{index + 1}"
    return f"{stage}a" if index == 0 else f"{stage}b{index}"


_MODEL_A = (0, 3, 3, 6, 3, 1, 1)
_POOLED, _STRIDED = "pool", "stride"

# Paper, results table; A1 and A2: official release (the paper's table does not list them). Keys are public names.
STRUCTURES: dict[str, Structure] = {
    structure.name: structure
    for structure in (
        Structure(224, _MODEL_A, name="A", published=Published(19.2, 4.7, 15.7)),
        Structure(224, (0, 1, 1, 1, 3, 1, 1), name="B", published=Published(21.0, 5.5, 43.3)),
        Structure(112, (1, 1, 1, 1, 13, 1, 1), name="C", published=Published(21.8, 5.9, 69.2)),
        Structure(112, (1, 1, 1, 1, 9, 1, 1), name="D", published=Published(22.1, 6.0, 81.2)),
        Structure(112, (1, 1, 1, 1, 5, 1, 1), name="E", published=Published(22.3, 6.2, 97.3)),
        Structure(56, (1, 1, 1, 1, 9, 1, 1), name="F", published=Published(25.2, 7.8, 113.5)),
        Structure(224, (0, 1, 1, 1, 1, 1, 1), name="224-0-1-1-1-1-1-1", published=Published(22.0, 5.8, 55.3)),
        Structure(224, _MODEL_A, (_STRIDED,) * 5, name="A1"),
        Structure(224, _MODEL_A, (_POOLED, _POOLED, _STRIDED, _STRIDED, _STRIDED), name="A2"),
    )
}


def find_structure(text: str | Structure) -> Structure:
    """Returns the structure of that name (`"A1"`), or the one written in the paper's notation.

    Raises:
        InputError: if `text` is neither; the message suggests the closest name.
    """
    if isinstance(text, Structure):
        return text
    if text in STRUCTURES:
        return STRUCTURES[text]
    try:
        return Structure.parse(text)
    except InputError as error:
        raise InputError(f"{error}. Known names: {', '.join(STRUCTURES)}{did_you_mean(str(text), STRUCTURES)}") from None


def frozen_stages(upto: str) -> int:
    """The last stage of a network that is frozen up to one of `FREEZABLE`; 8 is the batch norm behind them all."""
    return STAGES[-1] + 1 if upto == BACKBONE else int(upto.removeprefix("B"))


def frozen_in_words(upto: str) -> str:
    """What is frozen up to one of `FREEZABLE`, e.g. `"the stem and the stages up to B4"`."""
    return "the backbone, all but the head" if upto == BACKBONE else f"the stem and the stages up to {upto}"


def check_stage(upto: str, stages: Collection[int], what: str) -> None:
    """Raises `InputError` if a network cannot be frozen up to there.

    Args:
        upto: one of `FREEZABLE`.
        stages: those that have units.
        what: the network in the message, e.g. `"The model 'mine'"`.
    """
    if upto != BACKBONE and frozen_stages(upto) not in stages:
        names = ", ".join(f"B{stage}" for stage in sorted(stages))
        raise InputError(f"{what} has no units in {upto}: it can be frozen up to {names} or {BACKBONE}")


def same_network(first: str | Structure, second: str | Structure) -> bool:
    """Whether two structures describe the same network; Models A, A1 and A2 differ, although their parameters have the same shapes.

    Raises:
        InputError: if one of them is neither a known name nor written in the notation.
    """
    return find_structure(first).replace() == find_structure(second).replace()
