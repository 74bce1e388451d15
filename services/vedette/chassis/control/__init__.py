"""What the control routes of several services share on top of FastAPI.

Rule: nothing else in the chassis imports this package, so that a service without FastAPI installs none.
"""
