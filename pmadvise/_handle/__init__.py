"""Handles: which process, which address space, and no later one."""
