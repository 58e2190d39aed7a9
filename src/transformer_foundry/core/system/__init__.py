"""The machine: device and precision, memory, processes, random state, environment."""
