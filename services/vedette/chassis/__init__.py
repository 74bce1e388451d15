"""What turns a program into one of our services: configuration, servers, telemetry, logs, lifecycle.

Rule: nothing here knows what a model is.
"""
