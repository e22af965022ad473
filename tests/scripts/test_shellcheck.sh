#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every shell script in the repository passes shellcheck; every Python one compiles.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

shell=() python=()
while IFS= read -r -d '' file; do
    [ -f "$file" ] || continue
    case $file in
        *.sh) shell+=("$file") ;;
        *.py) python+=("$file") ;;
        *)
            case $(head -c 64 "$file" | head -n 1 | tr -d '\0') in
                '#!'*bash | '#!/bin/sh') shell+=("$file") ;;
                '#!'*python3) python+=("$file") ;;
            esac
            ;;
    esac
done < <(git ls-files -z --cached --others --exclude-standard)

if [ ${#shell[@]} -eq 0 ] || [ ${#python[@]} -eq 0 ]; then
    echo "FAIL: found no scripts to check" >&2
    exit 1
fi
shellcheck -x "${shell[@]}"
python3 - "${python[@]}" <<'EOF'
import ast
import sys

for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        ast.parse(file.read(), path)
EOF
echo "ok: ${#shell[@]} shell and ${#python[@]} Python scripts"
