"""DreamBooth: a text-to-image model learns a subject from a few photos (Stable Diffusion 1.x, 2.x and XL)."""
