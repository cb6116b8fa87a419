# shellcheck shell=bash
# Shared by the shell scripts: paths, progress lines and stage timing. Source it; it changes into the repository root.
set -euo pipefail
SSM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SSM_CACHE=${SSM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ssmbench}
SSM_JOBS=${SSM_JOBS:-$(nproc)}
SSM_STAGES=() SSM_KEEP_GOING=0
cd "$SSM_ROOT"

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}
bad_option() {
  printf '%s: unknown option "%s"; see %s --help\n' "$(basename "$0")" "$1" "$0" >&2
  exit 2
}

# The comment block at the top of a script is its help.
print_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root or sudo for: $*"
  fi
}

minutes() { awk -v s="$1" 'BEGIN { printf "%.1f min", s / 60 }'; }

# stage NAME COMMAND...   runs it with set -e in force, says how long it took, remembers that for stage_table.
# A failed stage ends the script; after SSM_KEEP_GOING=1 it sets SSM_RC and counts in SSM_FAILED. Never call it left of || or &&: that turns set -e off.
SSM_FAILED=0 SSM_RC=0
stage() {
  local name=$1 start=$SECONDS rc result=ok
  shift
  say "== $name"
  set +e
  (
    set -e
    "$@"
  )
  rc=$?
  set -e
  SSM_RC=$rc
  [ $rc = 0 ] || result="failed ($rc)"
  SSM_STAGES+=("$(printf '%-36s %9s  %s' "$name" "$(minutes $((SECONDS - start)))" "$result")")
  [ $rc = 0 ] && return
  SSM_FAILED=$((SSM_FAILED + 1))
  [ $SSM_KEEP_GOING = 1 ] || { say "$name: $result" >&2 && exit 1; }
}

stage_table() {
  say ""
  printf '%s\n' ${SSM_STAGES[@]+"${SSM_STAGES[@]}"}
}
