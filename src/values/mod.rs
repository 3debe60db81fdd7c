//! What a configuration key can hold: value types, each with `FromStr` and its own error, so that a value that exists is valid.
