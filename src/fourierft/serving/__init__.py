"""Serving: the plug-in that teaches vLLM FourierFT, and the server around it."""
