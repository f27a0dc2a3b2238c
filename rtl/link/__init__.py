"""The link from a host: bytes, frames, requests."""
