"""Settings, presets, methods and rivals by name."""
