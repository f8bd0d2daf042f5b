"""The preset of `heartbeat pretrain`: weights from which other trainings start."""

from typing import Any

BACKBONE = "heartbeat-backbone"

# Synthetic recordings are of nobody, so no test recording can be among them; each simulates another device.
PRETRAINING: dict[str, Any] = {
    "source": {
        "name": "demo", "varied": True, "subjects_per_class": 1600, "sites": 1, "duration_s": [4.0, 9.0],
        "plant_faults": False,
    },
    "validation": {"near_duplicates": "off"},
    "split": {"test_fraction": 0.05, "valid_fraction": 0.05},
    "training": {
        "init": "random", "epochs": 5, "batch": 64, "learning_rate": 0.002, "mask_fraction": 0.1,
    },
    "registry": {"model_name": BACKBONE, "aliases": ["champion"]},
}  # fmt: skip


def pretraining_settings(source: str) -> dict[str, Any]:
    """The preset for pretraining on ``source``, over which the user's settings are laid.

    Sources other than demo are searched for near-duplicates, and register their own model: studies start from that of demo.
    """
    if source == "demo":
        return PRETRAINING
    registry = {**PRETRAINING["registry"], "model_name": f"{BACKBONE}-{source}"}
    return {section: keys for section, keys in PRETRAINING.items() if section != "validation"} | {"registry": registry}
