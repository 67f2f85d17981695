"""Typed stages, their durable outputs, and what executes them."""
