# shellcheck shell=bash
# Finds or builds Kokkos for one kind of build (openmp, check, cuda, hip). Sourced by bootstrap.
# CMakeLists.txt reads the prefix from .ssmbench/kokkos-<kind>, unless Kokkos_ROOT is given.
# A build is named by its source, compiler, flags and processor, so that nothing stale is ever used.

kokkos_flags() { # the cmake arguments of one kind
  echo "-DCMAKE_CXX_STANDARD=20 -DKokkos_ENABLE_SERIAL=ON -DKokkos_ENABLE_DEPRECATED_CODE_4=OFF"
  case $1 in
    openmp) echo "-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-march=native -DKokkos_ENABLE_OPENMP=ON" ;;
    check) echo "-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1;-g -DKokkos_ENABLE_DEBUG_BOUNDS_CHECK=ON" ;;
    cuda) echo "-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=-march=x86-64-v3 -DKokkos_ENABLE_OPENMP=ON -DKokkos_ENABLE_CUDA=ON
                -DKokkos_ARCH_HOPPER90=ON -DKokkos_ENABLE_COMPILE_AS_CMAKE_LANGUAGE=ON -DCMAKE_CUDA_ARCHITECTURES=90
                -DCMAKE_CUDA_COMPILER=$(find_nvcc) -DCMAKE_CUDA_FLAGS=-std=c++20;-include;$SSM_ROOT/cmake/cuda13.hpp" ;;
    hip) echo "-DCMAKE_CXX_STANDARD=17 -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=hipcc -DKokkos_ENABLE_HIP=ON
               -DKokkos_ARCH_AMD_GFX90A=ON -DKokkos_ENABLE_ROCTHRUST=OFF -DCMAKE_CXX_FLAGS=-O1;-march=x86-64-v3" ;;
  esac
}

find_nvcc() { command -v nvcc || { [ -x /usr/local/cuda/bin/nvcc ] && echo /usr/local/cuda/bin/nvcc; } || die "no nvcc found: install the CUDA toolkit"; }

kokkos_key() {
  local compiler
  case $1 in cuda) compiler="$(find_nvcc) --version" ;; hip) compiler="hipcc --version" ;; *) compiler=true ;; esac
  {
    echo "${SSM_KOKKOS_SOURCE:-$KOKKOS_SHA256}"
    kokkos_flags "$1" | sed "s|$SSM_ROOT/||g; s|-DCMAKE_CUDA_COMPILER=[^ ]*||"
    [ "$1" != cuda ] || cat cmake/cuda13.hpp
    "${CXX:-g++}" --version && $compiler
    grep -m1 'model name' /proc/cpuinfo
  } 2>/dev/null | sha256sum | cut -c1-12
}

kokkos_prefix() { if [ -n "${Kokkos_ROOT:-}" ]; then echo "$Kokkos_ROOT (Kokkos_ROOT)"; else cat ".ssmbench/kokkos-$1"; fi; }

kokkos_ready() { # true when it is built; leaves the prefix where CMake looks for it
  [ -z "${Kokkos_ROOT:-}" ] || return 0
  local prefix
  prefix="$SSM_CACHE/kokkos-$1-$(kokkos_key "$1")"
  [ -e "$prefix/.complete" ] || return 1
  mkdir -p .ssmbench
  [ "$(cat ".ssmbench/kokkos-$1" 2>/dev/null)" = "$prefix" ] || echo "$prefix" >".ssmbench/kokkos-$1"
}

fetch_kokkos() { # into $SSM_CACHE/source-<hash>/kokkos; pip asks the package for its metadata, hence --no-build-isolation
  local target=$SSM_CACHE/source-${KOKKOS_SHA256:0:12} tmp
  [ ! -e "$target/.complete" ] || { echo "$target/kokkos" && return; }
  tmp=$(mktemp -d --tmpdir="$SSM_CACHE")
  .venv/bin/python -m pip download -q --disable-pip-version-check --no-deps --no-build-isolation --no-binary "$KOKKOS_PACKAGE" \
    -d "$tmp" "$KOKKOS_PACKAGE==$KOKKOS_PACKAGE_VERSION" >&2
  local archive=$tmp/$KOKKOS_PACKAGE-$KOKKOS_PACKAGE_VERSION.tar.gz
  echo "$KOKKOS_SHA256  $archive" | sha256sum --check --quiet >&2 || die "the archive with Kokkos' sources has an unexpected SHA-256"
  rm -rf "$target" && mkdir -p "$target"
  tar -xzf "$archive" -C "$target" --strip-components=1 "$KOKKOS_PACKAGE-$KOKKOS_PACKAGE_VERSION/kokkos"
  rm -rf "$tmp" && touch "$target/.complete"
  echo "$target/kokkos"
}

make_kokkos() {
  mkdir -p "$SSM_CACHE"
  exec 9>"$SSM_CACHE/lock"
  flock 9 # two bootstraps at once: the second finds the first one's build
  if kokkos_ready "$1"; then return; fi
  local source prefix build flags log
  source=${SSM_KOKKOS_SOURCE:-$(fetch_kokkos)}
  prefix=$SSM_CACHE/kokkos-$1-$(kokkos_key "$1") build=$SSM_CACHE/build-$1 log=$SSM_CACHE/kokkos-$1.log
  say "   $source -> $prefix (log: $log)"
  rm -rf "$build" "$prefix"
  read -r -a flags <<<"$(kokkos_flags "$1" | tr '\n' ' ')"
  flags=("${flags[@]//;/ }") # a ; stands for a space inside one argument
  cmake -S "$source" -B "$build" -G Ninja "${flags[@]}" -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib >"$log" 2>&1 &&
    cmake --build "$build" -j "$SSM_JOBS" >>"$log" 2>&1 && cmake --install "$build" >>"$log" 2>&1 ||
    { tail -n 30 "$log" >&2 && die "building Kokkos for $1 failed"; }
  rm -rf "$build" && touch "$prefix/.complete"
  kokkos_ready "$1"
}
