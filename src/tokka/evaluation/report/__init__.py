"""The page of an evaluation, one HTML file, and the same for Kubeflow's UI."""
