"""A training on several machines: what they give each other, how they meet, and how a step asks for them."""
