"""Public contract suites and builders for authors of adapters and of tests."""
