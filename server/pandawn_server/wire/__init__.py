"""The edge of the server: gRPC in, use cases out. The only asynchronous code."""
