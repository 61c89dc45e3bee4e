"""How a network computes over ranks: data, sharded, tensor, pipeline and expert parallelism."""
