"""Mergeable summaries of tables and the distances between them: numpy and datasketches, nothing of a service."""
