"""FourierFT: fine-tuning foundation models with a few spectral coefficients a layer (arXiv 2405.03003)."""

__version__ = "0.1.0"
