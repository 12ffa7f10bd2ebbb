"""Whether the trackers that a training is to report to are here, told before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.util import find_spec

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from fourierft.errors import ConfigError

OTHERS = {  # trackers that are not named like their package: any one of these modules will do, what to install
    "azure_ml": (("azureml",), "azureml-sdk"),
    "comet_ml": (("comet_ml",), "comet-ml"),
    "flyte": (("flytekit",), "flytekit"),
    "kubeflow": (("sys",), ""),  # needs no package
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard"),
}


def check_trackers(names: Iterable[str]) -> None:
    """Raise ConfigError, if transformers knows no such tracker, or it is not installed or not set up.

    Args:
        names: of `report_to`.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            near = difflib.get_close_matches(name, INTEGRATION_TO_CALLBACK, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}"
            raise ConfigError(f"report_to={name} is not a known tracker; {hint}")
        modules, package = OTHERS.get(name, ((name,), name))
        if not any(map(find_spec, modules)):
            raise ConfigError(
                f"report_to={name} needs {package}, which is not installed; pip install {package}, or leave it out"
            )
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError, ValueError) as error:  # the errors of transformers' several trackers
            raise ConfigError(f"report_to={name} can't be used here: {' '.join(str(error).split())}") from error
