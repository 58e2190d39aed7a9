"""Writers of the export formats: ``.pt2``, TorchScript, ONNX and quantized variants."""
