"""For the tests of programs that use worker_core: a fake executor, a fake clock, and faults.

The fakes pass the same suite as the real ones (tests/core/test_executor_contract.py).
"""
