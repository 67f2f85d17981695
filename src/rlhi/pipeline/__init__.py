"""A run from a recipe: the stages in their order, each done, reused or made anew."""
