"""Persona cards: what is known of a user, every line with the turns it was drawn from."""
