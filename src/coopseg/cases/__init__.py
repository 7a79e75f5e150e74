"""The way from a scan to what networks see, and back by the same record."""
