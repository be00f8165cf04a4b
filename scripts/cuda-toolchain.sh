#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs CUDA's compilers and libclang into a virtual environment: no root, no GPU, under a minute.
#
#     eval "$(scripts/cuda-toolchain.sh [DIR])"      # DIR defaults to target/cuda
#
# Prints the lines that let kiln find them: nvcc for build.rs and `cargo xtask kernels`, NVRTC for programs that compile
# kernels themselves, libclang for `cargo xtask abi`. With KILN_OLDER=1 also NVRTC 12.4 and 13.0 (OLDER_NVRTC), ptxas
# 12.9 and 13.0 (OLDER_PTXAS) and nvcc 13.0 (OLDER_NVCC), to show that they take kiln's kernels. Versions are pinned, since registers and instruction counts, which
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

# Puts a package of another version into a folder of its own, and prints a file of it.
older() {
    folder=$dir/older/$1
    [ -d "$folder" ] || "$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder" "$1" >&2
    echo "$(cd "$folder" && pwd)/$2"
}
if [ "${KILN_OLDER:-0}" = 1 ]; then
    echo "export OLDER_NVRTC='$(older nvidia-cuda-nvrtc-cu12==12.4.127 nvidia/cuda_nvrtc/lib/libnvrtc.so.12)" \
        "$(older nvidia-cuda-nvrtc==13.0.88 nvidia/cu13/lib/libnvrtc.so.13)'"
    echo "export OLDER_PTXAS='$(older nvidia-cuda-nvcc-cu12==12.9.86 nvidia/cuda_nvcc/bin/ptxas)" \
        "$(older nvidia-cuda-nvcc==13.0.88 nvidia/cu13/bin/ptxas)'"
    folder=$dir/older/nvcc-13.0
    [ -d "$folder" ] || "$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder" \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 \
        nvidia-cuda-cccl==13.0.85 >&2
    echo "export OLDER_NVCC='$(cd "$folder" && pwd)/nvidia/cu13/bin/nvcc'"
fi

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
