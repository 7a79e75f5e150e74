"""Estimates how good a segmentation is, without its truth: signs of trouble, and a map from them to Dice."""
