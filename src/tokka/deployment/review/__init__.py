"""May this version serve: its signed evidence, who decided on it, and what its rollout will be able to see."""
