# Shortcuts for `.ci/run` and cargo. `just` lists them.

_default:
  @just --list

# The quick checks: format and lints
check:
  .ci/run fmt clippy

# Everything that must pass before a merge
ci:
  .ci/run

# All tests, or those whose name contains NAME
test NAME="":
  cargo test --locked {{NAME}}

# Tests with a browser, Node and other servers; FILE is one of tests/peers/*_test.py
peers FILE="":
  tests/peers/run {{FILE}}

# One fuzz target for SECONDS: cookie, framing, headers, keys, login, target, token
fuzz TARGET SECONDS="60":
  cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none {{TARGET}} tests/fuzz/seeds/{{TARGET}} -- -max_total_time={{SECONDS}}

# A benchmark: verify, walk, revocations
bench NAME="walk":
  cargo bench --bench {{NAME}}

# A gateway with the example file
run:
  cargo run --release -- run -c gateway.example.toml
