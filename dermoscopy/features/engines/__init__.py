"""What runs a backbone over prepared images: one module an engine, and `choice`, which picks one."""
