"""What the form of the Kubeflow UI offers: the defaults are those of params.yaml, the choices those of its sections.

In a nested pipeline, and for whoever starts a run by the API, an empty text, 0 and {} say nothing.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args

from kfp import dsl

from tokka import sections
from tokka.monitoring.drift.policy import Cause
from tokka.params import form_fields, load_params

ROOT = Path(__file__).parents[1]
FORM = SimpleNamespace(**form_fields(load_params(ROOT / "params.yaml")))
# Said by a pipeline that gives all of the params as `overrides`.
NOTHING = {
    "endpoint": "", "data_source": "", "text_column": "", "label_column": "", "strategy": "", "base_model": "",
    "epochs": 0, "review": "",
}  # fmt: skip
CHOICES = {
    "strategy": get_args(sections.Finetuning.model_fields["strategy"].annotation),
    "review": get_args(sections.Registry.model_fields["review"].annotation),
    "cause": get_args(Cause),
}
# Differs from run to run: what looks at the world, or changes it, is never taken from a cache.
JOB = dsl.PIPELINE_JOB_ID_PLACEHOLDER
