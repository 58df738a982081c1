"""Tokka turns a general pretrained transformer into a specialist for one domain and keeps it sharp."""

import os

# KFP's launcher starts tasks with umask 0, under which the record and its folders were anybody's to write.
_LEAST = 0o077 if os.environ.get("KUBERNETES_SERVICE_HOST") else 0o022
os.umask(os.umask(_LEAST) | _LEAST)
