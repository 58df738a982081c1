"""One thin component per step; all logic is in the package, where it is tested without Kubeflow.

The image is fixed when the pipelines are compiled: `TOKKA_IMAGE=registry/tokka-python@sha256:… tokka compile`.
"""

import functools
import os

from kfp import dsl

# The local runner warns about an image without "python" in its name; a container gets the digest that CI pins.
IMAGE = os.environ.get("TOKKA_IMAGE", "tokka-python:0.1.0")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
