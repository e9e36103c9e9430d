"""The Lava backends. Lava runs in a worker process in its own environment, never in this one."""
