"""Sources: what the kernel tells of which memory was not touched, one file each."""
