//! A revocation: what the state keeps, the verifier looks up, and the command line writes.
