"""coopseg: segmentation networks that stay right on scans they were not trained for."""

__version__ = "0.1.0"
