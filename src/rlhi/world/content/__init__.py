"""What the world knows: topics with their facts, and the dimensions of preference, as YAML."""
