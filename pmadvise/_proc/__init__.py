"""Facts from /proc: one way to read each file. Knows no advice."""
