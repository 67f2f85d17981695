"""From pairs to a policy: tokens, log-probabilities, objective, and a trainer that resumes exactly."""
