//! Tests of the policy algebra.
