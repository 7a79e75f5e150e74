"""Makes up short-axis cine MR: geometry, tissue, scanner. No scan is needed, every volume is known."""
