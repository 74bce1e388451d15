"""The data plane: Open Inference Protocol and SageMaker clients to ONNX models."""
