"""The checks, one a file, found by reflection."""
