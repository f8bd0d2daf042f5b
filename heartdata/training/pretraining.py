"""The settings of `heartbeat pretrain`: weights for others to start from."""

from typing import Any

BACKBONE = "heartbeat-backbone"

# Laid under whatever is typed. Made sounds hold no recording of anybody's, so no test recording can be among them, and
# each stands for another device.
PRETRAINING: dict[str, Any] = {
    "source": {
        "name": "demo", "varied": True, "subjects_per_class": 1600, "sites": 1, "duration_s": [4.0, 9.0],
        "plant_faults": False,
    },
    "validation": {"near_duplicates": False},
    "split": {"test_fraction": 0.05, "valid_fraction": 0.05},
    "training": {
        "init": "random", "epochs": 5, "batch": 64, "learning_rate": 0.002, "mask_fraction": 0.1,
    },
    "registry": {"model_name": BACKBONE, "aliases": ["champion"]},
}  # fmt: skip


def pretraining_settings(source: str) -> dict[str, Any]:
    """What lies under what is typed when ``source`` is pretrained on.

    Recordings have near-duplicates, and weights of their own name: studies start from those of made sounds.
    """
    if source == "demo":
        return PRETRAINING
    registry = {**PRETRAINING["registry"], "model_name": f"{BACKBONE}-{source}"}
    return {section: keys for section, keys in PRETRAINING.items() if section != "validation"} | {"registry": registry}
