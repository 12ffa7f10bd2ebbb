"""README.md of a DreamBooth adapter: what it means, how it was trained, how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fourierft.files import write_text
from fourierft.tables import format_bytes


def write_card(metrics: dict[str, Any], record: dict[str, Any], path: Path) -> None:
    """Write the model card of a training from its metrics and its record."""
    base, method = record["base_model"], record["method"]
    settings = "".join(f", {name}={value}" for name, value in record["settings"].items())
    header = ["---", "library_name: peft", *([] if Path(base).exists() else [f"base_model: {base}"])]
    header += ["pipeline_tag: text-to-image", "tags:", "- fourierft", f"- {method}", "---"]
    images = " of the subject, ".join(map(str, record["images"])) + (" of its class" if record["class_prompt"] else "")
    pinned = {} if Path(base).exists() or record["revision"] == "main" else {"revision": record["revision"]}
    options = [f"{name}={value!r}" for name, value in {**pinned, "variant": record["variant"]}.items() if value]
    enable = "import fourierft\n" if method == "fourierft" else ""
    switch = "fourierft.enable()\n" if method == "fourierft" else ""
    text = f"""
# {method} on {Path(base).name}: {record["instance_prompt"]}

Trained with `fourierft dreambooth`.

- Base model: `{base}`{f", revision `{record['revision']}`" * (record["revision"] != "main")}
- Images: {images}
- Method: {method}{settings}
- Trained parameters: {metrics["parameters"]["adapter"]:,}, {format_bytes(metrics["bytes"]["file"])}
- Steps: {metrics["train"]["steps"]}, seed {record["seed"]}
- Loss on samples that stayed the same: {metrics["probe"]["before"]:.4f} before, {metrics["probe"]["after"]:.4f} after
- Versions: {", ".join(f"{name} {number}" for name, number in record["versions"].items())}

## Load

```python
{enable}from diffusers import DiffusionPipeline
from peft import PeftModel

{switch}pipeline = DiffusionPipeline.from_pretrained({", ".join([repr(base), *options])})
PeftModel.from_pretrained(pipeline.unet, "DIRECTORY")  # puts the adapter into the UNet
pipeline("{record["instance_prompt"]}").images[0].save("image.png")
```

`fourierft dreambooth sample DIRECTORY --prompt "{record["instance_prompt"]}"` does the same.
"""
    write_text(path, "\n".join(header) + "\n" + text)
