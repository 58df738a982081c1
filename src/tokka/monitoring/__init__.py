"""Windows of traffic, drift, and the policy that retrains."""
