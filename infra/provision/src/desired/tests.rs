//! Tests of what should exist.
