"""The networks of FTN and STN, and their blocks."""
