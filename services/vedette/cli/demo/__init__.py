"""`vedette demo ...`: shows on real data, and a running suite, that what is promised happens."""
