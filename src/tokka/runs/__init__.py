"""One run from request to summary, and the demo's runs; the only folder with kfp's client in it."""
