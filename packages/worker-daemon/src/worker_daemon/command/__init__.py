"""The actions of `workerd`, one module each."""
