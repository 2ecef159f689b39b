# make demo     napari with a sample stack (DATA=path opens your own); without a display it
#               drives itself in a virtual one and leaves demo-output/
# make test     the whole test suite, real windows included
# make check    formatting, types, directions of imports
# make package  a wheel, tried in a clean environment
# QT=pyqt6      with Qt 6 instead of Qt 5

PYTHON ?= python3
QT ?= pyqt5
VENV ?= .venv$(if $(filter pyqt5,$(QT)),,-$(QT))
BIN = $(VENV)/bin
DATA ?=
TESTS ?=
PIP_INSTALL = -m pip install --disable-pip-version-check -q -c constraints.txt
XVFB = $(if $(DISPLAY)$(WAYLAND_DISPLAY),,xvfb-run -a -s "-screen 0 1600x1100x24")
CPU_TORCH = --index-url https://download.pytorch.org/whl/cpu --retries 2 --timeout 15

.PHONY: demo test check package clean system
.NOTPARALLEL:

system:
	@PYTHON="$(PYTHON)" sh demo/prepare.sh

# Without an NVIDIA driver torch comes from the index of CPU builds, since the package index
# would bring gigabytes of CUDA along.
define make_environment
	$(PYTHON) -m venv $(1)
	@if command -v nvidia-smi >/dev/null 2>&1; then $(1)/bin/python $(PIP_INSTALL) torch; \
	else $(1)/bin/python $(PIP_INSTALL) $(CPU_TORCH) --no-deps torch 2>/dev/null \
	|| echo "The index of CPU builds gave no torch; taking the one of the package index." \
	&& $(1)/bin/python $(PIP_INSTALL) torch; fi
endef

$(BIN)/.ready: setup.cfg constraints.txt | system
	@echo "Making the environment $(VENV) (a few minutes, once)"
	@$(call make_environment,$(VENV))
	@$(BIN)/python $(PIP_INSTALL) -e ".[$(QT),dev]"
	@touch $@

demo: system $(BIN)/.ready
ifeq ($(DISPLAY)$(WAYLAND_DISPLAY),)
	$(XVFB) $(BIN)/python -m demo.journey $(if $(DATA),"$(DATA)")
else
	$(BIN)/napari-unet open $(if $(DATA),"$(DATA)",--sample synthetic)
endif

# Tests of windows draw with the processor, so two at a time are enough; each has its own screen.
# They are all as nice as the threads of the program that stay behind, which would else wait for
# the window of the other test; and libraries compute in one thread.
test: system $(BIN)/.ready
ifdef TESTS
	OMP_NUM_THREADS=1 nice $(BIN)/python -m pytest -n 2 $(TESTS)
else
	$(BIN)/python -m pytest -n auto tests --ignore tests/plugin
	OMP_NUM_THREADS=1 nice $(BIN)/python -m pytest -n 2 tests/plugin
endif

check: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

package: system $(BIN)/.ready
	rm -rf dist .venv-package
	$(BIN)/python -m build -q
	@$(call make_environment,.venv-package)
	@.venv-package/bin/python $(PIP_INSTALL) dist/*.whl PyQt5
	cd dist && ../.venv-package/bin/npe2 validate napari-unet-em
	cd dist && ../.venv-package/bin/napari-unet models | grep em-lite
	cd dist && ../.venv-package/bin/python -c "import napari_unet; assert 'site-packages' in napari_unet.__file__"

clean:
	rm -rf .venv .venv-pyqt6 .venv-package build dist demo-output *.egg-info
