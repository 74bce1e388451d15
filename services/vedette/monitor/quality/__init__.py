"""How good a model is and for whom: metrics, estimates without labels, bias, attribution; and the model itself."""
