"""What each user message says of the reply before it."""
