"""From label maps to numbers: volumes, the heart's function, and what of the anatomy is broken or mended."""
