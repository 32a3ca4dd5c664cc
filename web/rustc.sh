#!/bin/sh
# Debian's compiler, for build.sh. It is older than what is built, which was written for what has become stable since: that is switched on, for this
# project's crates and the one crate of others that needs it.
set -eu
compiler="$1"; shift
here="$(cd "$(dirname "$0")/.." && pwd)"
case " $* " in *" $here/crates/"*) set -- "$@" -Adead_code ;; esac # what only the server half uses
for argument; do
  case "$argument" in
    "$here"/crates/*.rs | */registry/src/*/image-*.rs)
      for feature in slice_as_chunks unsigned_is_multiple_of integer_sign_cast let_chains; do
        set -- "$@" "-Zcrate-attr=feature($feature)"
      done ;;
  esac
done
exec "$compiler" "$@"
