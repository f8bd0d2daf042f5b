"""The training recipe: the settings of `heartdata.training.train`."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from heartdata.settings import Settings

View = Literal["windows", "whole"]


class NetworkConfig(Settings):
    """How one network is trained."""

    init: str = Field(
        default="auto",
        description="weights to start from: imagenet, random, auto (imagenet if available), a .safetensors file or models:/...",
    )
    epochs: int = Field(default=12, ge=0, le=1000, description="epochs of all layers; 0: train the last layer only")
    frozen_epochs: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="epochs of the last layer only, before those of all; skipped with random weights",
    )
    patience: int = Field(
        default=10, ge=1, le=1000, description="epochs without improvement after which training stops"
    )
    batch: int = Field(default=16, ge=2, le=4096, description="windows in a batch")
    width: int = Field(default=128, ge=32, le=65536, description="length of a window in spectrogram columns")
    view: View = Field(
        default="windows", description="input: windows of a recording, or the whole recording resized to the width"
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="maximum of the one-cycle schedule")
    backbone_rate: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="learning rate of pretrained layers (all but the last) as a share of learning_rate",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    label_smoothing: float = Field(default=0.05, ge=0, lt=1, description="label smoothing of the cross entropy")
    balance: Literal["class", "class_and_collection", "none"] = Field(
        default="class",
        description="what is sampled equally often: classes, collections within each class, or recordings (none)",
    )
    mask_fraction: float = Field(
        default=0.15,
        ge=0,
        le=0.5,
        description="SpecAugment: longest masked share of a window's time and of its bands; no effect with epochs = 0",
    )
    mixup: float = Field(default=0.0, ge=0, le=10, description="alpha of mixup's beta distribution; 0: off")
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=100,
        exclude_if=lambda weight: not weight,  # left out of the digest when off, so old cache keys stay valid
        description="weight of the contrastive loss between windows of one recording and others; 0: off",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="number format of forward passes; auto: bfloat16 if the hardware supports it"
    )
    seed: int = Field(default=0, ge=0, description="seed of initial weights, sampling and augmentation")

    @model_validator(mode="after")
    def _check_epochs(self) -> "NetworkConfig":
        if self.epochs + (self.frozen_epochs if self.init != "random" else 0) == 0:
            raise ValueError(
                "epochs = 0 trains the last layer alone, which needs frozen_epochs above 0 and weights to start from: set "
                "training.init to a model, such as that of `heartbeat pretrain`, or training.epochs above 0"
            )
        return self

    @model_validator(mode="after")
    def _check_contrast(self) -> "NetworkConfig":
        if self.contrast and (self.balance != "none" or self.mixup or self.view != "windows"):
            raise ValueError(
                "contrast needs balance = none (each recording once per epoch), mixup = 0 and view = windows"
            )
        return self

    @field_validator("init")
    @classmethod
    def _check_init(cls, init: str) -> str:
        if init in ("imagenet", "random", "auto") or init.startswith("models:/") or init.endswith(".safetensors"):
            return init
        raise ValueError("choose imagenet, random, auto, a .safetensors file or models:/name@alias")


class TrainingConfig(NetworkConfig):
    """How the networks of an ensemble are trained: all alike but for their seeds."""

    members: int = Field(default=1, ge=1, le=20, description="networks in the ensemble, which averages probabilities")

    def networks(self) -> list[NetworkConfig]:
        """One configuration a member; the first is that of a single network, so its cached training is reused."""
        shared = self.model_dump(exclude={"members", "seed"})
        seeds = [self.seed, *(100 * (self.seed + 1) + number for number in range(1, self.members))]
        return [NetworkConfig.model_validate({**shared, "seed": seed}) for seed in seeds]
