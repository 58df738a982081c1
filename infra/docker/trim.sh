#!/bin/sh
# trim.sh SITE_PACKAGES: removes what no program imports (measured: 90 MB of `server`, 350 MB of `pipeline`).
set -eu
cd "$1"
# Tests that libraries ship of themselves; evidently has an interface of that name.
find . -type d -name tests ! -path './evidently/*' -prune -exec rm -rf {} +
rm -rf torch/test
[ ! -d torch/bin ] || find torch/bin -type f ! -name torch_shm_manager -delete
# Compiled forms of what is imported a file here and a file there, by name: those few are compiled when they are used.
for folder in altair apprise/plugins databricks faker fontTools kubernetes nltk plotly/validators pygments/lexers \
    sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle statsmodels sympy/physics torch/testing \
    transformers/models; do
    [ ! -d "$folder" ] || find "$folder" -type d -name __pycache__ -prune -exec rm -rf {} +
done
# Arrow's network protocol, and what only notebooks open.
rm -rf pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* \
    evidently/nbextension jupyterlab_plotly ../../../share/jupyter
[ ! -d statsmodels ] || find statsmodels/datasets sklearn/datasets -type f \( -name '*.csv' -o -name '*.csv.gz' -o -name '*.jpg' \) -delete
find . -type f -name '*.ipynb' -delete
# Headers and stubs are for compilers and editors; Python has its own copy of the runtime in a module.
rm -rf torch/include pyarrow/include numpy/_core/include onnxruntime/capi/libonnxruntime.so.*
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' \) -delete
# Of the services that boto3 describes only these are called.
if [ -d botocore/data ]; then
    find botocore/data boto3/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc -exec rm -rf {} +
fi
