"""Reference data: files read without trust, and the baselines that are made of them."""
