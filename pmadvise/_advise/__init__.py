"""Advise any ranges, in calls that the target can bear, with a true account."""
