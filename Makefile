# The study's commands. Newcomers need two: `make reproduce` and `make test`; each sets up what it needs.
#
#   make reproduce [PROFILE=embedded] [CORES=2] [ARGS=-n]   run the notebooks; ARGS go to snakemake (-n shows the plan)
#     PROFILE=embedded        the default, about 9 minutes on two cores; checks its main table against the full study's
#     PROFILE=embedded-full   the full study, about 200 minutes: the numbers in README.md; others are in workflow/profiles/
#     DATA=/path        the images, weights and tables that the profile names: see the top of workflow/profiles/<profile>.yaml
#     CLUSTER=slurm     run the jobs on a cluster: slurm or kubernetes, set up in workflow/cluster/
#     GPUS=1            GPUs of this machine, for profiles that need one per job
#   make test       lint, pytest on both packages, pytest --nbval on every notebook
#   make lint       ruff, imports in one direction only, and committed notebooks executed, in order, without errors
#   make data       the photographs of the data set cutouts, a Debian package (161 MB), by apt-get download; no root needed
#   make setup      the environment: .venv, or the activated environment if it has this package
#   make bench      speed and memory side by side, into results/bench.csv (ARGS="--only explainer" for a part)
#   make lab        open the notebooks in JupyterLab, at a page with the picture and answer of each
#   make docs       the site, README and notebooks, into site/
#   make html       every notebook as one HTML file, into site/html/
#   make readme [PROFILE=embedded-full]   copy a finished profile's tables to results/reference, and their numbers into README.md and docs/
#   make lock       renew constraints.txt (needs uv)
#   make clean      remove everything that can be made again, except .venv

PROFILE ?= embedded
CORES ?= $(shell nproc 2>/dev/null || echo 2)
PYTHON3 ?= python3
ARGS ?=
DATA ?=
CLUSTER ?=
GPUS ?= 1
# Recipes read what people give from the environment, so that a shell never takes a name apart.
export PROFILE CORES PYTHON3 DATA CLUSTER GPUS
# Python keeps what it compiles, also where it is told not to: else every process of the tests would compile torch again.
export PYTHONDONTWRITEBYTECODE :=

ifneq ($(filter 0% -%,$(CORES))$(filter-out 1,$(words $(CORES))),)
$(error CORES=$(CORES): give the number of jobs to run at a time, 1 or more)
endif

# An activated environment (venv or conda) that has this checkout's packages is used as it is.
ACTIVE := $(if $(VIRTUAL_ENV)$(CONDA_PREFIX),$(shell python workflow/make_venv.py --has-package 2>/dev/null))
ifneq ($(ACTIVE),)
PYTHON := python
READY :=
else
PYTHON := .venv/bin/python
READY := .venv/ready
endif

# On this machine one job per core, on a cluster as its profile says.
WHERE := $(if $(CLUSTER),--profile "workflow/cluster/$$CLUSTER",--cores "$$CORES" --resources "gpu=$$GPUS")

# A name for snakemake's --config, which reads YAML: quoted in a list, so that 010, a' and "b: c" stay what they are.
TEXT = "$(1)=['$$(printf %s "$$$(2)" | sed "s/'/''/g")']"

.PHONY: help setup data reproduce test lint bench lab docs html readme lock clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,/^$$/p' Makefile

setup: $(READY)

.venv/ready: pyproject.toml constraints.txt workflow/make_venv.py
	"$$PYTHON3" workflow/make_venv.py .venv

data: setup
	$(PYTHON) -m ptame_study data

reproduce: setup
	@for folder in . results figures runs; do test ! -e $$folder || test -w $$folder || { echo "ERROR: the folder $$folder can't be written: make it writable, or work in a copy elsewhere" >&2; exit 1; }; done
	$(PYTHON) -m snakemake --snakefile workflow/Snakefile --directory . $(WHERE) --quiet rules host --config $(call TEXT,profile,PROFILE) $(if $(DATA),$(call TEXT,data,DATA)) --keep-going --rerun-incomplete --nolock $(ARGS)
	@$(if $(ARGS),true,$(PYTHON) -m ptame_study report --profile "$$PROFILE")

# One thread for each process. Notebooks side by side: first those whose explainers others load, together with those that
# load none, then the others; of each the long ones first, so that no core waits.
FIRST := $(patsubst %,notebooks/%.ipynb,11_black_box 06_sanity 02_train_ptame 05_auxiliary 10_explain_your_classifier \
	07_explainer_train 01_classifiers 00_data)
LONG := $(patsubst %,notebooks/%.ipynb,08_explainer_compare 14_sticker 12_whose_evidence 03_compare)
OTHERS := $(LONG) $(filter-out $(FIRST) $(LONG),$(wildcard notebooks/*.ipynb))
NBVAL := pytest --nbval --nbval-current-env --nbval-kernel-startup-timeout 600 -n "$$CORES" --dist loadfile
NBVAL += --no-loadscope-reorder

test: export OMP_NUM_THREADS = 1
# glibc keeps freed memory and, for the tests, asks for large pages, as in the study's own runs
test bench: export MALLOC_MMAP_THRESHOLD_ = 33554432
test bench: export MALLOC_TRIM_THRESHOLD_ = 1073741824
test: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1
test: lint
	$(PYTHON) -m pytest -n "$$CORES" --dist worksteal
	$(PYTHON) -m $(NBVAL) $(FIRST)
	$(PYTHON) -m $(NBVAL) $(OTHERS)

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-cache --no-logo
	$(PYTHON) workflow/check_notebooks.py

# one thread per core
bench: setup
	OMP_NUM_THREADS="$$CORES" $(PYTHON) workflow/bench $(ARGS)

lab: setup
	$(PYTHON) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/index.ipynb --ServerApp.tornado_settings="{'websocket_max_message_size': 268435456}"

docs: setup
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet
	@echo "site/index.html"

html: setup
	$(PYTHON) -m jupyter nbconvert --to html --template folded --TemplateExporter.extra_template_basedirs=workflow/templates --output-dir site/html notebooks/*.ipynb

readme: setup
	$(PYTHON) -m ptame_study readme $(if $(filter file,$(origin PROFILE)),,--profile "$$PROFILE")

lock:
	uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate --upgrade pyproject.toml -o constraints.txt

clean:
	rm -rf data/cache runs site build .snakemake
	find results figures -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +
