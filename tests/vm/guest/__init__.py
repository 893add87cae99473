"""The inner side: what runs in the machine, and what its tests are written with."""
