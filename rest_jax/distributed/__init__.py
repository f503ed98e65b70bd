"""Where arrays live: the mesh of devices, and the rules that divide parameters and batches over it."""
