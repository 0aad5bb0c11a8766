# A thin front of CMake: `make build` installs what is missing, builds, and leaves the command at
# build/release/pquant. Everything else is in CMakePresets.json and CMakeLists.txt.
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
SOURCES = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.hpp')

.PHONY: all build demo test asan ubsan tsan lint format tables install doc deb clean
all: build

build:
	tools/deps.sh
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

# The whole job on the sample; outputs go to build/demo.
demo: build
	tools/demo.sh

test:
	tools/deps.sh lint
	cmake --preset release
	cmake --build --preset release -j $(JOBS)
	ctest --test-dir build/release --output-on-failure -j $(JOBS)

# The unit tests under a sanitizer; golden ones take too long there.
asan ubsan:
	tools/deps.sh
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)
	ctest --test-dir build/$@ --output-on-failure -j $(JOBS) -LE 'golden|project'

# GCC's OpenMP runtime is not built for the thread sanitizer, which therefore sees races where its
# barriers are: tests of what runs on plain threads only.
tsan:
	tools/deps.sh
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)
	ctest --test-dir build/$@ --output-on-failure -j $(JOBS) -L unit -R '^(base|data|tensor|evaluate|library)'

lint:
	tools/deps.sh lint
	cmake --preset release
	cmake --build --preset release -j $(JOBS)
	ctest --test-dir build/release --output-on-failure -L 'lint|headers'

format:
	clang-format -i $(SOURCES)

# Measures every table of README and docs again (some hours); one: tools/tables.sh NAME. Then the
# tutorial's outputs.
tables: build
	tools/tables.sh
	tests/project/docs.py build/release --paste docs/tutorial.md

# In /usr/local programs find the library once the loader's cache knows it.
install: build
	cmake --install build/release --prefix $(PREFIX)
	[ "$$(id -u)" != 0 ] || ldconfig

# The reference of the public headers: build/doc/html/index.html.
doc:
	mkdir -p build
	doxygen docs/Doxyfile

# A Debian package of command, library, headers, manual pages and completions: build/package/*.deb.
deb:
	tools/deps.sh package
	cmake --preset package
	cmake --build --preset package -j $(JOBS)
	cd build/package && cpack -G DEB

clean:
	rm -rf build
