"""What a network costs on a machine, layer by layer: by compiled programs (exact), or in closed form where programs would take too long."""
