"""The boots of a machine, in their order, and how each but the last is ended."""

BOOTS = {
    "first": "reboot",  # as `systemctl reboot` does it
    "rebooted": "power cut",  # from one moment to the next
    "power_cut": "power off",
}


def order(boot: str) -> int:
    """Return the place of a boot in the order."""
    return list(BOOTS).index(boot)
