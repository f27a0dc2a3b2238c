"""What the machine is shown with: small real models and their data."""
