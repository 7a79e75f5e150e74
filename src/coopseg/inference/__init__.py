"""Models on disk, prediction and export."""
