"""The outer side: builds the disk, runs the machine, and tells pytest what happened in it."""
