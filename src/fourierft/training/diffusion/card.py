"""README.md of a DreamBooth adapter: what it means, how it was trained, how to load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fourierft.adapters.card import CARD_FILE, HERE, Card, describe_base, describe_method, is_hub_id, with_switch
from fourierft.format.config import CONFIG_FILE
from fourierft.format.json_file import read_json
from fourierft.tables import format_bytes


def write_card(metrics: dict[str, Any], record: dict[str, Any], directory: Path, name: str | None = None) -> None:
    """Write the card of a training from its metrics and its record, beside its adapter.

    Args:
        name: of the repository on the hub that it is sent to.
    """
    config = read_json(directory / CONFIG_FILE)
    base, prompt = record["base_model"], record["instance_prompt"]
    images = " of the subject, ".join(map(str, record["images"])) + (" of its class" if record["class_prompt"] else "")
    revision = record["revision"] if is_hub_id(base) and record["revision"] != "main" else None
    options = {name: value for name, value in (("revision", revision), ("variant", record["variant"])) if value}
    given = ", ".join([json.dumps(base), *(f"{name}={json.dumps(value)}" for name, value in options.items())])
    code = (
        f"pipeline = DiffusionPipeline.from_pretrained({given})\n"
        f"PeftModel.from_pretrained(pipeline.unet, {json.dumps(name or HERE)})  # puts the adapter into the UNet\n"
        f'pipeline({json.dumps(prompt)}).images[0].save("image.png")'
    )
    imports = "from diffusers import DiffusionPipeline\nfrom peft import PeftModel"
    probe = metrics["probe"]
    Card(
        title=f"{record['method']} on {Path(base).name}: {prompt}",
        about="Trained with `fourierft dreambooth`.",
        record=record,
        pipeline_tag="text-to-image",
        facts=[
            ("Base model", describe_base(record)),
            ("Images", images),
            ("Method", describe_method(record, config)),
            ("Trained parameters", f"{metrics['parameters']['adapter']:,}"),
            ("Weights", format_bytes(metrics["bytes"]["file"])),
            ("Steps", f"{metrics['train']['steps']}, seed {record['seed']}"),
            ("Loss on samples that stayed the same", f"{probe['before']:.4f} before, {probe['after']:.4f} after"),
            ("Versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
        ],
        code=with_switch(imports, code, config),
        notes=("", f"`fourierft dreambooth sample . --prompt {json.dumps(prompt)}`, in this folder, does the same."),
    ).write(directory / CARD_FILE)
