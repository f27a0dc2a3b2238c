"""From the formats that people have to `sw.workloads.network.Network` or to lists of products."""
