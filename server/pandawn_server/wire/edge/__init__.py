"""What surrounds every call: the gRPC server, interceptors, validation, errors, pages, batches."""
