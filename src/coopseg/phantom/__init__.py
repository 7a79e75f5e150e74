"""Makes up short-axis cine MR: geometry, tissue, scanner. No scan is needed, every volume is known."""

from coopseg.phantom.write import write_phantom as write_phantom
