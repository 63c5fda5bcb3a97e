"""The parts of tools/gpu_check. Python's standard library only: a GPU node may have no more."""
