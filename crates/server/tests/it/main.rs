//! Tests of the server from outside.

mod contract;
