export PYTHONPATH=/work/wt/pyn/src
export PYTHONDONTWRITEBYTECODE=
export PATH=/work/main/.venv/bin:$PATH
