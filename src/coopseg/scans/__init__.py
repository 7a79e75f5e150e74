"""NIfTI files, geometry, labels and the layouts of data sets."""
