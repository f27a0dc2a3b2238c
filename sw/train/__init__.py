"""Training: networks, data, the golden engine and what drives them."""
