"""What users and training scripts import: clients and converters. Light: nothing of a server."""
