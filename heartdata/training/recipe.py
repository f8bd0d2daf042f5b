"""How networks are trained: the settings of `heartdata.training.train`."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from heartdata.settings import Settings

View = Literal["windows", "whole"]


class NetworkConfig(Settings):
    """How one network is trained. Counts are of epochs unless they say otherwise."""

    init: str = Field(default="auto", description="imagenet | random | auto | a .safetensors | models:/...")
    epochs: int = Field(default=12, ge=0, le=1000, description="of all layers; 0: only the frozen epochs")
    frozen_epochs: int = Field(
        default=1, ge=0, le=1000, description="of the last layer alone, before; not from random weights"
    )
    patience: int = Field(
        default=10, ge=1, le=1000, description="epochs in a row not as good as the best, until training stops"
    )
    batch: int = Field(default=16, ge=2, le=4096)
    width: int = Field(default=128, ge=32, le=65536, description="spectrogram columns in a window")
    view: View = Field(default="windows", description="whole: a recording as one plot, squeezed to the width")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="the highest of the one-cycle schedule")
    backbone_rate: float = Field(
        default=0.3, gt=0, le=1, description="of all layers but the last, as a share of learning_rate; given weights"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    balance: Literal["class", "class_and_collection", "none"] = Field(
        default="class", description="what is drawn equally often; none: recordings; see docs/training.md"
    )
    mask_fraction: float = Field(default=0.15, ge=0, le=0.5, description="longest hidden stretch of time and of bands")
    mixup: float = Field(default=0.0, ge=0, le=10, description="alpha of the mixing share's beta distribution; 0: none")
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=100,
        exclude_if=lambda weight: not weight,  # trainings of before it was there keep their names
        description="weight of telling two windows of a recording from all others; see docs/training.md",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of forward passes; auto: bfloat16 where the processor has it"
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _trains_something(self) -> "NetworkConfig":
        if self.epochs + (self.frozen_epochs if self.init != "random" else 0) == 0:
            raise ValueError("epochs = 0 needs frozen_epochs above 0, and weights to start from (init)")
        return self

    @model_validator(mode="after")
    def _contrasts_recordings(self) -> "NetworkConfig":
        if self.contrast and (self.balance != "none" or self.mixup or self.view != "windows"):
            raise ValueError("contrast needs balance = none (a recording once an epoch), mixup = 0 and view = windows")
        return self

    @field_validator("init")
    @classmethod
    def _known(cls, init: str) -> str:
        if init in ("imagenet", "random", "auto") or init.startswith("models:/") or init.endswith(".safetensors"):
            return init
        raise ValueError("choose imagenet, random, auto, a .safetensors file or models:/name@alias")


class TrainingConfig(NetworkConfig):
    """How networks that answer together are trained: all alike, each with draws of its own."""

    members: int = Field(default=1, ge=1, le=20, description="networks that answer by the mean of their probabilities")

    def networks(self) -> list[NetworkConfig]:
        """One for each member; the first is trained as it would be if it were alone."""
        shared = self.model_dump(exclude={"members", "seed"})
        seeds = [self.seed, *(100 * (self.seed + 1) + number for number in range(1, self.members))]
        return [NetworkConfig.model_validate({**shared, "seed": seed}) for seed in seeds]
