"""The verbs of `workerd`, one module each."""
