"""One thin component per step; all logic is in the package, where it is tested without Kubeflow.

The image is fixed when the pipelines are compiled: `TOKKA_IMAGE=registry/tokka/pipeline@sha256:… tokka compile`.
"""

import functools
import os
from pathlib import Path

from kfp import dsl

# As `make image` names it; a cluster gets the digest that CI pins.
IMAGE = os.environ.get("TOKKA_IMAGE", "tokka/pipeline:0.1.0")

STEPS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__"))
component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
