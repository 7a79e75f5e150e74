"""DICOM in: folders and zip files become scans, with a record of every object that they were made from."""
