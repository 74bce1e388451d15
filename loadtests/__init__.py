"""Load tests: what vedette is measured against, side by side on one machine."""
