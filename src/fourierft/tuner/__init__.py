"""The PEFT tuner: config, layer, model, and the switch that puts them behind `PeftType.FOURIERFT`."""

from fourierft.extras import check_hosts

try:
    from fourierft.tuner.config import FourierFTConfig
    from fourierft.tuner.layer import FourierFTLayer
    from fourierft.tuner.model import FourierFTModel
    from fourierft.tuner.registration import disable, enable
    from fourierft.tuner.scaling import auto_scaling
except ImportError:
    check_hosts()  # says why, where PEFT or transformers is another than it has to be
    raise

__all__ = ["FourierFTConfig", "FourierFTLayer", "FourierFTModel", "auto_scaling", "disable", "enable"]
