"""For the tests of programs that use worker_core: an executor and a clock that pretend, and faults.

The pretenders pass the same suite as the real ones (tests/core/test_executor_contract.py).
"""
