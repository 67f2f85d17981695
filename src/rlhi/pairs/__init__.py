"""Preference pairs from user-guided rewrites and from user-based rewards, each with the story of why it exists."""
