//! `watch` and `images`, from a registry to a commit in a manifest repository.

mod delivery;
