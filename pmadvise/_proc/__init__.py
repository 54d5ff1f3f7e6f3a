"""Facts of /proc, /sys and cgroups: one way to read each file."""
