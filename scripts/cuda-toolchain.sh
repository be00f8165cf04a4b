#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs CUDA's compilers and libclang into a virtual environment: no root, no GPU, under a minute.
#
#     eval "$(scripts/cuda-toolchain.sh [DIR])"      # DIR defaults to target/cuda
#
# Prints the lines that let kiln find them: nvcc for build.rs and `cargo xtask kernels`, NVRTC for programs that compile
# kernels themselves, libclang for `cargo xtask abi`. Versions are pinned, since registers and instruction counts, which
# `cargo xtask kernels --check` holds to, are properties of one compiler.
set -eu

dir=${1:-target/cuda}

[ -x "$dir/bin/pip" ] || python3 -m venv "$dir" >&2
"$dir/bin/pip" install --quiet --disable-pip-version-check \
    nvidia-cuda-nvcc==13.5.37 \
    nvidia-cuda-crt==13.5.37 \
    nvidia-nvvm==13.5.37 \
    nvidia-cuda-nvrtc==13.5.37 \
    nvidia-cuda-runtime==13.5.37 \
    nvidia-cuda-cccl==13.3.5.0.6 \
    nvidia-cuda-cuobjdump==13.5.37 \
    nvidia-cuda-nvdisasm==13.5.37 \
    libclang==18.1.1 >&2

for clang in "$dir"/lib/python3*/site-packages/clang/native; do
    if [ -e "$clang/libclang.so" ]; then
        echo "export LIBCLANG_PATH=$(cd "$clang" && pwd)"
    fi
done
for nvcc in "$dir"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
    if [ -x "$nvcc" ]; then
        bin=$(cd "$(dirname "$nvcc")" && pwd)
        echo "export NVCC=$bin/nvcc"
        echo "export LD_LIBRARY_PATH=${bin%/bin}/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
        exit 0
    fi
done
echo "cuda-toolchain: no nvcc below $dir after installing" >&2
exit 1
