"""What all tests share: small models and data, an example of each class, and contracts."""
