"""The operations of the graph, each a CacheMap and an Exec."""
