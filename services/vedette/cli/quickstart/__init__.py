"""What `vedette up` adds to the suite: three models of real data, a prediction with each, and lines to copy.

Rule: it is a client like any other, in a process of its own that ends when it has said everything. A second
run uses what the first has left in the registry.
"""
