"""Optional kernels in C++ for the networks."""
